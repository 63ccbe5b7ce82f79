"""Which modules an operator of an artifact computes, found by values alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from ulsam_deploy.graph import Evaluator, Program, capture
from ulsam_deploy.graph.modules import module_paths
from ulsam_deploy.graph.ownership import Operator, inside, kept, owners


def network() -> nn.Module:
    torch.manual_seed(0)
    body = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU6())
    return nn.Sequential(body, nn.Conv2d(4, 5, 1), nn.Flatten(), nn.Linear(5 * 36, 3)).eval()


@pytest.fixture(scope="module")
def program() -> Program:
    return capture(network(), [(3, 6, 6)], 1)


@pytest.fixture(scope="module")
def feed() -> dict[str, np.ndarray]:
    return {"input": np.random.default_rng(0).normal(size=(1, 3, 6, 6)).astype(np.float32)}


@pytest.fixture(scope="module")
def tensors(program: Program, feed: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The value that leaves each module, by its path."""
    found = {}
    for node, value in Evaluator(program, torch.float32).every([torch.from_numpy(feed["input"])]):
        if isinstance(value, torch.Tensor) and (paths := module_paths(node)):
            found[paths[-1].removeprefix("model.")] = value.numpy()
    return found


def fused(tensors, feed, last: bool = False) -> tuple[list[Operator], dict[str, np.ndarray]]:
    """Convolution, batch norm and clip in one operator; channels last where ``last``."""
    operators = [
        Operator("pad", ("input",), "padded"),
        Operator("first", ("padded",), "a"),
        Operator("second", ("a",), "b"),
        Operator("classify", ("b",), "c"),
    ]
    values = {"a": tensors["0.2"], "b": tensors["1"], "c": tensors["3"], "padded": np.zeros((1, 3, 8, 8), np.float32)}
    if last:
        values |= {name: values[name].transpose(0, 2, 3, 1) for name in ("a", "b")}
    return operators, {**values, **feed}


@pytest.mark.parametrize("last", [False, True])
def test_an_operator_owns_all_that_was_fused_into_it(
    program: Program, tensors: dict[str, np.ndarray], feed: dict[str, np.ndarray], last: bool
) -> None:
    operators, values = fused(tensors, feed, last)
    found = owners(program, operators, values, feed)
    assert found["first"] == {"0.0", "0.1", "0.2"}
    assert found["second"] == {"1"}
    assert "3" in found["classify"]


def test_what_is_found_nowhere_belongs_to_what_comes_next(
    program: Program, tensors: dict[str, np.ndarray], feed: dict[str, np.ndarray]
) -> None:
    found = owners(program, *fused(tensors, feed), feed)
    assert found["pad"] == found["first"]


@pytest.mark.parametrize(
    ("keep", "names"),
    [
        (("0",), {"pad", "first"}),
        (("0.1",), {"pad", "first"}),
        (("1",), {"second"}),
        (("",), {"pad", "first", "second", "classify"}),
        (("1#2",), {"second"}),
        ((), set()),
    ],
)
def test_modules_are_kept_with_all_that_lies_in_them(
    program: Program, tensors: dict[str, np.ndarray], feed: dict[str, np.ndarray], keep: Any, names: Any
) -> None:
    assert set(kept(owners(program, *fused(tensors, feed), feed), keep)) == names


def test_a_value_that_is_wrong_is_not_taken_for_the_right_one(
    program: Program, tensors: dict[str, np.ndarray], feed: dict[str, np.ndarray]
) -> None:
    operators, values = fused(tensors, feed)
    values["b"] = values["b"] * 1.01
    found = owners(program, operators, values, feed)
    assert {"1", "3"} <= found["classify"]
    assert found["second"] == found["classify"], "its own value is found nowhere"


@pytest.mark.parametrize(
    ("path", "modules", "is_in"),
    [("a.b", ("a",), True), ("a.b", ("a.b",), True), ("ab", ("a",), False), ("a", ("a.b",), False), ("a", ("",), True)],
)
def test_inside(path: str, modules: tuple[str, ...], is_in: bool) -> None:
    assert inside(path, modules) is is_in
