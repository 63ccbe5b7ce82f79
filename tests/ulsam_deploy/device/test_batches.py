"""A dynamic batch is looked at in every place: whatever an artifact does to images from the k-th on shows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from ulsam_deploy.device.engines import produce, runtime_for
from ulsam_deploy.device.parity import is_built_in, make_probes
from ulsam_deploy.device.types import TensorSpec
from ulsam_deploy.inputs.probes import PROBES

SPEC = (TensorSpec("x", (None, 3), "float32"),)
RESULT = (TensorSpec("y", (None, 3), "float32"),)


def spoils_from(place: int, path: Path, factor: float = 0.0, *, only: bool = False) -> Path:
    """A network that gives its input, but for the images of a batch from ``place`` on (or ``only`` that): times
    ``factor``."""
    constants = {
        "place": np.int64(place), "zero": np.int64(0), "one": np.int64(1), "first": np.array([0], np.int64),
        "last": np.array([1], np.int64), "column": np.array([-1, 1], np.int64),
        "kept": np.float32(1), "spoilt": np.float32(factor),
    }  # fmt: skip
    nodes = [
        helper.make_node("Shape", ["x"], ["shape"]),
        helper.make_node("Slice", ["shape", "first", "last"], ["sizes"]),
        helper.make_node("Squeeze", ["sizes"], ["size"]),
        helper.make_node("Range", ["zero", "size", "one"], ["places"]),
        helper.make_node("Equal" if only else "Less", ["places", "place"], ["there" if only else "early"]),
        *([helper.make_node("Not", ["there"], ["early"])] if only else []),
        helper.make_node("Where", ["early", "kept", "spoilt"], ["row"]),
        helper.make_node("Reshape", ["row", "column"], ["factor"]),
        helper.make_node("Mul", ["x", "factor"], ["y"]),
    ]
    ports = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", 3]) for name in "xy")
    held = [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "spoils", [next(ports)], [next(ports)], held)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


@pytest.mark.parametrize("count", [PROBES, 40])
@pytest.mark.parametrize(
    ("place", "factor"), [(1, 0.0), (4, 0.0), (5, 0.0), (9, 0.0), (15, 0.0), (16, 0.0), (32, 0.999), (32, float("nan"))]
)
def test_every_place_is_looked_at(place: int, factor: float, count: int, tmp_path: Path) -> None:
    x = np.random.default_rng(0).normal(size=(count, 3)).astype(np.float32)
    with runtime_for("onnx")([spoils_from(place, tmp_path / "m.onnx", factor)], SPEC, RESULT) as runtime:
        assert not np.array_equal(produce(runtime, {"x": x})["y"], x)


@pytest.mark.parametrize("count", [PROBES, 40])
@pytest.mark.parametrize("place", [0, 1, 2, 4, 14, 15, 23, 32])
def test_a_single_wrong_place_is_not_put_right_by_another_one(place: int, count: int, tmp_path: Path) -> None:
    x = np.random.default_rng(0).normal(size=(count, 3)).astype(np.float32)
    with runtime_for("onnx")([spoils_from(place, tmp_path / "m.onnx", 1.01, only=True)], SPEC, RESULT) as runtime:
        assert not np.array_equal(produce(runtime, {"x": x})["y"], x)


@pytest.mark.parametrize("count", [1, 7, PROBES, 40])
def test_an_honest_batch_changes_nothing(count: int, tmp_path: Path) -> None:
    x = np.random.default_rng(0).normal(size=(count, 3)).astype(np.float32)
    with runtime_for("onnx")([spoils_from(99, tmp_path / "m.onnx")], SPEC, RESULT) as runtime:
        assert np.array_equal(produce(runtime, {"x": x})["y"], x)


def test_constant_images_are_among_the_probes_that_every_network_gets() -> None:
    inputs, names = make_probes({"x": (3, 8, 8)}, count=PROBES)
    constant = {name for name, image in zip(names, inputs["x"]) if not np.ptp(image.reshape(3, -1), axis=1).any()}
    assert constant == {"constant", "zero"}
    assert all(map(is_built_in, names))
