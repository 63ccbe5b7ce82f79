"""From pixels to what the network is fed: the one formula, in any channel order, range and layout."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ulsam_deploy.device.errors import UsageError
from ulsam_deploy.device.images import NAMED
from ulsam_deploy.device.preprocessing import Preprocessing


def pixels(channels: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (2, 3, 4, channels)).astype(np.uint8)


def test_imagenet_is_what_torchvision_does() -> None:
    array = pixels(3)
    right = (array / 255 - np.array([0.485, 0.456, 0.406])) / np.array([0.229, 0.224, 0.225])
    found = NAMED["imagenet"].normalized(array)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, right.transpose(0, 3, 1, 2), rtol=1e-5, atol=1e-6)


@given(st.floats(-2, 1), st.floats(0.1, 300), st.floats(-2, 2), st.floats(0.1, 10), st.integers(0, 255))
def test_a_pixel_becomes_what_the_formula_says(low: float, width: float, mean: float, std: float, level: int) -> None:
    how = Preprocessing(channels="L", range=(low, low + width), mean=(mean,), std=(std,)).check()
    found = how.normalized(np.full((1, 1, 1, 1), level, np.uint8))[0, 0, 0, 0]
    right = (low + level / 255 * width - mean) / std
    assert found == pytest.approx(right, rel=1e-4, abs=1e-3)


def test_channels_last_networks_get_channels_last() -> None:
    array = pixels(3)
    first = Preprocessing().normalized(array)
    last = Preprocessing(layout="NHWC").normalized(array)
    np.testing.assert_array_equal(first.transpose(0, 2, 3, 1), last)
    assert Preprocessing().size((3, 5, 7)) == Preprocessing(layout="NHWC").size((5, 7, 3)) == (5, 7)


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ({"range": (1.0, 1.0)}, "the range is"),
        ({"range": (0.0, 0.5, 1.0)}, "the range is"),
        ({"mean": (0.1, 0.2)}, "mean has 2 numbers"),
        ({"channels": "L", "std": (1.0, 1.0, 1.0)}, "std has 3 numbers"),
        ({"std": (0.0,)}, "std is"),
    ],
)
def test_what_makes_no_sense_is_refused(how: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        Preprocessing(**how).check()


@pytest.mark.parametrize("shape", [(1, 8, 8), (8, 8, 3), (10,)])
def test_an_input_of_other_channels_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(UsageError, match="gives 3 channels"):
        Preprocessing().size(shape)
