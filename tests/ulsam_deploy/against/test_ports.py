"""Which port is which tensor, in which layout: worked out where it can be, asked for where it can't."""

from __future__ import annotations

import pytest

from ulsam_deploy.against.ports import batch_of, map_inputs, map_outputs
from ulsam_deploy.device.errors import UsageError
from ulsam_deploy.device.types import TensorSpec

IMAGE = TensorSpec("x", (1, 3, 32, 48))


def port(*shape: int | None, name: str = "in", dtype: str = "float32") -> TensorSpec:
    return TensorSpec(name, shape, dtype)


@pytest.mark.parametrize(
    ("shape", "layout", "described"),
    [
        ((1, 3, 32, 48), "as-is", (1, 3, 32, 48)),
        ((4, 32, 48, 3), "NHWC", (4, 3, 32, 48)),
        ((None, 3, None, None), "as-is", (None, 3, None, None)),
        ((None, None, None, 3), "NHWC", (None, 3, None, None)),
    ],
)
def test_layout_is_worked_out(shape: tuple[int | None, ...], layout: str, described: tuple[int | None, ...]) -> None:
    (found,) = map_inputs((port(*shape),), (IMAGE,), None)
    assert (found.name, found.layout, found.shape) == ("in", layout, described)


def test_an_ambiguous_layout_is_asked_for_and_then_used() -> None:
    cube = TensorSpec("x", (1, 8, 8, 8))
    with pytest.raises(UsageError, match="fits both layouts") as wrong:
        map_inputs((port(1, 8, 8, 8),), (cube,), None)
    assert "--layout NHWC" in wrong.value.todo
    assert map_inputs((port(1, 8, 8, 8),), (cube,), "NHWC")[0].layout == "NHWC"
    assert map_inputs((port(1, 8, 8, 8),), (cube,), "NCHW")[0].layout == "as-is"
    with pytest.raises(UsageError, match="fits both"):
        map_inputs((port(None, None, None, None),), (IMAGE,), None)


def test_what_does_not_fit_is_said() -> None:
    with pytest.raises(UsageError, match="1x3x64x64") as wrong:
        map_inputs((port(1, 3, 64, 64),), (IMAGE,), None)
    assert "--input" in wrong.value.todo
    with pytest.raises(UsageError, match="as NHWC does not fit"):
        map_inputs((port(1, 3, 32, 48),), (IMAGE,), "NHWC")
    with pytest.raises(UsageError, match="uint8"):
        map_inputs((port(1, 3, 32, 48, dtype="uint8"),), (IMAGE,), None)
    with pytest.raises(UsageError, match="2 inputs"):
        map_inputs((port(1, 3, 32, 48), port(1, 3, 32, 48)), (IMAGE,), None)
    with pytest.raises(UsageError, match="batch axis"):
        batch_of((port(),))


def test_inputs_go_by_name_then_by_order() -> None:
    a, b = TensorSpec("a", (1, 4)), TensorSpec("b", (1, 4))
    named = map_inputs((port(1, 4, name="b"), port(1, 4, name="a")), (a, b), None)
    assert [spec.name for spec in named] == ["a", "b"]
    ordered = map_inputs((port(1, 4, name="p"), port(1, 4, name="q")), (a, b), None)
    assert [spec.name for spec in ordered] == ["p", "q"]


def test_outputs_in_another_order_are_told_apart_by_shape() -> None:
    mask, logits = TensorSpec("mask", (1, 2, 8, 6)), TensorSpec("logits", (1, 5))
    found = map_outputs((port(1, 5, name="0"), port(1, 8, 6, 2, name="1")), (mask, logits), None)
    assert {name: (spec.name, spec.layout) for name, spec in found.items()} == {
        "mask": ("1", "NHWC"),
        "logits": ("0", "as-is"),
    }


def test_an_output_of_another_shape_is_left_for_the_check_to_judge() -> None:
    logits = TensorSpec("logits", (1, 5))
    assert map_outputs((port(1, 7, name="y"),), (logits,), None)["logits"].shape == (1, 7)
    assert map_outputs((), (logits,), None) == {}
