from typing import Any

import numpy as np
import pytest

from ulsam_deploy.device.errors import UsageError
from ulsam_deploy.device.parity import make_probes
from ulsam_deploy.device.parity.probes import ADVERSARIAL


@pytest.mark.parametrize("shape", [(3, 32, 24), (1, 8, 8), (5, 7, 3), (2, 9), (6,), (), (2, 4, 5, 6), (1, 1, 1)])
def test_any_shape(shape: Any) -> None:
    inputs, names = make_probes({"x": shape}, count=30)
    assert inputs["x"].shape == (30, *shape)
    assert inputs["x"].dtype == np.float32
    assert np.isfinite(inputs["x"]).all()
    assert len(set(names)) == 30


def test_seeds_decide_everything() -> None:
    one, other, again = (make_probes({"x": (3, 8, 8)}, seed=seed)[0]["x"] for seed in (1, 2, 1))
    np.testing.assert_array_equal(one, again)
    assert not np.array_equal(one, other)


def test_inputs_differ_from_each_other() -> None:
    inputs, _ = make_probes({"a": (3, 8, 8), "b": (3, 8, 8)})
    assert not np.array_equal(inputs["a"], inputs["b"])


@pytest.mark.parametrize(("count", "batch", "made"), [(32, 1, 32), (32, 5, 35), (1, 1, 1), (1, 4, 4), (10, 10, 10)])
def test_count_is_a_multiple_of_the_batch(count: int, batch: int, made: int) -> None:
    inputs, names = make_probes({"x": (1, 4, 4)}, count=count, batch=batch)
    assert len(inputs["x"]) == len(names) == made


def test_every_adversarial_kind_and_as_many_natural_ones_take_turns() -> None:
    _, names = make_probes({"x": (1, 4, 4)}, count=32)
    assert set(ADVERSARIAL) < set(names)
    assert all(name.startswith("natural-") for name in names[:28:2])
    assert not any(name.startswith("natural-") for name in names[1:28:2])


def test_natural_probes_look_like_normalised_photographs() -> None:
    inputs, names = make_probes({"x": (3, 64, 64)}, count=60)
    images = inputs["x"][[name.startswith("natural") for name in names]]
    assert np.abs(images.mean((1, 2, 3))).max() < 0.01
    assert images.std((1, 2, 3)) == pytest.approx(1, abs=0.01)
    power = (np.abs(np.fft.fft2(images)) ** 2).mean((0, 1))
    assert power[1:3, 1:3].mean() > 100 * power[20:30, 20:30].mean()  # energy falls with frequency
    np.testing.assert_array_equal(images * 64, np.round(images * 64))  # packs well
    flat = images.reshape(len(images), -1)
    assert np.abs(np.corrcoef(flat) - np.eye(len(flat))).max() < 0.9  # no two alike


def test_adversarial_probes_are_what_they_are_called() -> None:
    inputs, names = make_probes({"x": (3, 16, 12)}, count=28)
    by_name = dict(zip(names, inputs["x"]))
    assert np.ptp(by_name["constant"], axis=(1, 2)).max() == 0
    assert np.ptp(by_name["constant"]) > 0
    assert np.abs(by_name["tiny"]).max() < 0.01
    assert np.abs(by_name["huge"]).max() > 50
    assert by_name["negative"].max() <= 0
    assert np.count_nonzero(by_name["impulse"]) == 3
    assert set(np.unique(by_name["saturated"])) == {-12, 12}
    assert (by_name["checkerboard"][:, 1:] == -by_name["checkerboard"][:, :-1]).all()
    assert not by_name["zero"].any()
    corners = {"top-left": (0, 0), "top-right": (0, 1), "bottom-left": (1, 0), "bottom-right": (1, 1)}
    for corner, (row, column) in corners.items():
        y, x = np.unravel_index(by_name[f"spot-{corner}"][0].argmax(), (16, 12))
        assert (y // 8, x // 6) == (row, column)
    square = make_probes({"x": (3, 16, 16)}, count=28)[0]["x"][names.index("gradient")]
    assert not np.allclose(square, square.transpose(0, 2, 1))


@pytest.mark.parametrize(
    "wrong", [{"count": 0}, {"batch": 0}, {"count": -3}, {"shapes": {}}, {"shapes": {"x": (3, 0, 4)}}]
)
def test_impossible_wishes_are_usage_errors(wrong: Any) -> None:
    with pytest.raises(UsageError, match="cannot make"):
        make_probes(**{"shapes": {"x": (1, 4, 4)}, **wrong})
