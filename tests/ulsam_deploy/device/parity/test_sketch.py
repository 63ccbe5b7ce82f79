import numpy as np
import pytest

from ulsam_deploy.device.parity.sketch import LIMIT, compact


def test_a_small_output_is_kept_as_it_is() -> None:
    array = np.random.default_rng(0).normal(size=(3, 4, 5)).astype(np.float32)
    assert compact(array).dtype == np.float64
    np.testing.assert_array_equal(compact(array), array.reshape(3, 20))


def test_a_sketch_is_linear_keeps_the_norm_and_is_its_own_sketch() -> None:
    a, b = np.random.default_rng(0).normal(size=(2, 4, 7, 50, 60))
    assert compact(a).shape == (4, LIMIT)
    np.testing.assert_allclose(compact(a - 2 * b), compact(a) - 2 * compact(b), atol=1e-12)
    np.testing.assert_array_equal(compact(compact(a)), compact(a))
    norms = np.linalg.norm(compact(a), axis=1) / np.linalg.norm(a.reshape(4, -1), axis=1)
    assert norms == pytest.approx(1, abs=0.05)


def test_every_element_and_its_place_count() -> None:
    zero = np.zeros((1, 3 * LIMIT))
    seen = []
    for place in (0, 1, LIMIT, 2 * LIMIT + 5, 3 * LIMIT - 1):
        one = zero.copy()
        one[0, place] = 1
        assert np.abs(compact(one)).sum() == 1
        seen.append(compact(one).tobytes())
    assert len(set(seen)) == len(seen)


def test_host_and_device_must_sketch_alike_so_the_hash_is_pinned() -> None:
    places = np.array([np.argmax(np.abs(compact(row[None]))) for row in np.eye(4, LIMIT + 1)])
    signs = [compact(row[None]).sum() for row in np.eye(4, LIMIT + 1)]
    # SplitMix64 from seed 0: 0xe220a8397b1dcdaf, 0x6e789e6aa1b965f4, 0x06c45d188009454f, 0xf88bb8a8724c81ec
    np.testing.assert_array_equal(places, [0xE22, 0x6E7, 0x06C, 0xF88])
    assert signs == [-1, 1, -1, 1]
