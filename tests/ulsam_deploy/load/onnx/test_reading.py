"""A stranger's ONNX file is refused in words and with the right exit code, before anything is opened or allocated."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ulsam_deploy.cli import main
from ulsam_deploy.device.errors import ExportError, RefusedError, UsageError

onnx = pytest.importorskip("onnx")
pytest.importorskip("torch")

from onnx import TensorProto, helper, numpy_helper  # noqa: E402

from ulsam_deploy.load import onnx as onnx_in  # noqa: E402


def array(name: str, values: Any) -> Any:
    return numpy_helper.from_array(np.asarray(values), name)


def model(
    nodes: list[Any] | None = None, weights: list[Any] | None = None, opset: int = 17, kind: int = TensorProto.FLOAT,
    shape: tuple[Any, ...] = (1, 3, 8, 8),
) -> Any:  # fmt: skip
    """A convolution, or ``nodes`` from ``x`` to ``y``."""
    weights = [array("w", np.ones((4, 3, 1, 1), np.float32))] if weights is None else weights
    graph = helper.make_graph(
        nodes or [helper.make_node("Conv", ["x", "w"], ["y"], name="/stem/Conv")],
        "graph",
        [helper.make_tensor_value_info("x", kind, shape)],
        [helper.make_tensor_value_info("y", kind, ("any", "number", "of", "values"))],
        weights,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "model.onnx"


def external(path: Path, location: str, length: int = 48, offset: int = 0) -> Any:
    """The convolution with its weights in the file at ``location``."""
    made = model()
    (weight,) = made.graph.initializer
    weight.ClearField("raw_data")
    weight.data_location = TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", offset), ("length", length)):
        weight.external_data.add(key=key, value=str(value))
    path.write_bytes(made.SerializeToString())


def test_external_weights_are_read_and_part_of_the_digest(path: Path) -> None:
    weights = np.arange(12, dtype=np.float32)
    external(path, "weights.bin", offset=8)
    path.with_name("weights.bin").write_bytes(b"12345678" + weights.tobytes())
    (read,) = onnx_in.load(path).model.parameters()
    assert np.array_equal(read.flatten().numpy(), weights)
    before = onnx_in.digest(path)
    path.with_name("weights.bin").write_bytes(b"12345678" + weights[::-1].tobytes())
    assert onnx_in.digest(path) != before


LINKS: dict[str, Callable[[Path, Path], None]] = {
    "symlink": lambda file, secret: file.symlink_to(secret),
    "hard link": lambda file, secret: os.link(secret, file),
    "folder": lambda file, _: file.mkdir(),
    "pipe": lambda file, _: os.mkfifo(file),
}


@pytest.mark.parametrize("kind", LINKS)
def test_weights_in_no_plain_file_are_refused(path: Path, tmp_path: Path, kind: str) -> None:
    (secret := tmp_path / "secret").write_bytes(bytes(48))
    LINKS[kind](path.with_name("weights.bin"), secret)
    external(path, "weights.bin")
    for read in (onnx_in.load, onnx_in.digest):
        with pytest.raises(RefusedError, match=r"weights\.bin"):
            read(path)
    assert main(["export", str(path), "--target", "onnx"]) == 6


@pytest.mark.parametrize(
    "location", ["../secret", "/etc/hostname", "a/../../secret", "C:\\secret", "\\\\host\\x", "..\\s"]
)
def test_weights_outside_the_folder_are_refused(path: Path, location: str, capsys: pytest.CaptureFixture[str]) -> None:
    (path.parent.parent / "secret").write_bytes(bytes(48))
    external(path, location)
    assert main(["export", str(path), "--target", "onnx"]) == 6
    assert "expected: external data in plain files beside the model" in capsys.readouterr().err
    assert main(["inspect", str(path)]) == 6


@pytest.mark.parametrize(("length", "offset"), [(49, 0), (48, 1), (-1, 0), (1 << 60, 0), (48, -8), (44, 0)])
def test_external_weights_that_are_not_there_are_an_error(path: Path, length: int, offset: int) -> None:
    external(path, "weights.bin", length, offset)
    path.with_name("weights.bin").write_bytes(bytes(48))
    with pytest.raises(ExportError):
        onnx_in.load(path)


def test_a_missing_data_file_is_named(path: Path) -> None:
    external(path, "weights.bin")
    with pytest.raises(ExportError, match=r"weights\.bin.*No such file"):
        onnx_in.load(path)


def bomb() -> Any:
    """A shape of a tebibyte behind no data at all."""
    made = model()
    made.graph.initializer[0].dims[:] = [1 << 20, 1 << 20, 1, 1]
    return made


BROKEN: dict[str, tuple[Callable[[], Any], str]] = {
    "a weight larger than its data": (bomb, "model.onnx"),
    "a weight that is not finite": (
        lambda: model(weights=[array("w", np.full((4, 3, 1, 1), np.nan, np.float32))]),
        "'w' has weights that are not finite",
    ),
    "an old opset": (lambda: model(opset=9), "opset 9"),
    "a newer opset than anybody's": (lambda: model(opset=99), "99"),
    "an image of whole numbers": (lambda: model(kind=TensorProto.UINT8), "uint8"),
    "an operator of somebody's own": (
        lambda: _with_domain(model([helper.make_node("Fly", ["x"], ["y"], domain="acme")], [])),
        "operators of acme",
    ),
    "a loop": (lambda: model([_loop()], [array("n", np.int64(1 << 60))]), "Loop (node '"),
    "a quantized model": (
        lambda: model([helper.make_node("DynamicQuantizeLinear", ["x"], ["q", "s", "z"], name="dynamic"),
                       helper.make_node("ConvInteger", ["q", "w", "z"], ["y"], name="quant")],
                      [array("w", np.ones((4, 3, 1, 1), np.uint8))]),
        "ConvInteger (node 'quant')",
    ),
    "a tensor that fills the memory": (
        lambda: model([helper.make_node("Tile", ["x", "r"], ["y"], name="big")],
                      [array("r", np.array([1, 1 << 20, 1 << 20, 1], np.int64))]),
        "elements, more than a compact CNN has",
    ),
    "a constant that fills the memory": (
        lambda: model([helper.make_node("ConstantOfShape", ["s"], ["c"]), helper.make_node("Add", ["x", "c"], ["y"])],
                      [array("s", np.array([1 << 40], np.int64))]),
        "a constant of",
    ),
    "a range that never ends": (
        lambda: model([helper.make_node("Range", ["a", "b", "d"], ["c"]), helper.make_node("Tile", ["x", "c"], ["y"])],
                      [array("a", np.int64(0)), array("b", np.int64(1 << 60)), array("d", np.int64(1))]),
        "a range of",
    ),
    "no batch axis": (lambda: model([helper.make_node("Relu", ["x"], ["y"])], [], shape=()), "no batch axis"),
    "a graph whose nodes form a circle": (
        lambda: model([helper.make_node("Add", ["x", "b"], ["a"]), helper.make_node("Relu", ["a"], ["b"]),
                       helper.make_node("Relu", ["b"], ["y"])], []),
        "model.onnx",
    ),
}  # fmt: skip


def _with_domain(made: Any) -> Any:
    made.opset_import.append(helper.make_opsetid("acme", 1))
    return made


def _loop() -> Any:
    info, boolean, real = helper.make_tensor_value_info, TensorProto.BOOL, TensorProto.FLOAT
    body = helper.make_graph(
        [helper.make_node("Identity", ["c"], ["d"]), helper.make_node("Identity", ["v"], ["u"])],
        "body",
        [info("i", TensorProto.INT64, ()), info("c", boolean, ()), info("v", real, ("n",))],
        [info("d", boolean, ()), info("u", real, ("n",))],
    )
    return helper.make_node("Loop", ["n", "", "x"], ["y"], body=body)


@pytest.mark.parametrize("case", BROKEN)
def test_what_cannot_be_read_is_named(path: Path, case: str) -> None:
    make, words = BROKEN[case]
    path.write_bytes(make().SerializeToString())
    with pytest.raises(ExportError) as error:
        onnx_in.load(path)
    assert words in error.value.found
    assert len(error.value.found) < 1000
    assert error.value.found.replace("\n", "").isprintable()


@pytest.mark.parametrize("data", [b"", b"no protobuf", b"\x08\x07" * 50, bytes(1000)])
def test_what_is_no_onnx_model_is_said_so(path: Path, data: bytes) -> None:
    path.write_bytes(data)
    with pytest.raises(ExportError, match=r"model\.onnx"):
        onnx_in.load(path)


def test_a_cut_file_is_an_error_wherever_it_is_cut(path: Path) -> None:
    data = model().SerializeToString()
    for size in range(0, len(data), 7):
        path.write_bytes(data[:size])
        with pytest.raises(ExportError):
            onnx_in.load(path)


def test_names_that_write_to_a_terminal_do_not(path: Path) -> None:
    name = "\x1b[31mred\x07" + "x" * 5000
    path.write_bytes(model([helper.make_node("NonZero", ["x"], ["y"], name=name)], []).SerializeToString())
    with pytest.raises(ExportError) as error:
        onnx_in.load(path)
    assert "\x1b" not in str(error.value)
    assert len(str(error.value)) < 1000


def test_shapes_and_batches_that_do_not_fit_are_usage(path: Path) -> None:
    path.write_bytes(model(shape=("N", 3, "h", "w")).SerializeToString())
    with pytest.raises(UsageError, match=r"takes 3xNxN"):
        onnx_in.load(path)
    assert onnx_in.load(path, [(3, 8, 8)]).shapes == ((3, 8, 8),)
    path.write_bytes(model().SerializeToString())
    with pytest.raises(UsageError, match="batches of 1"):
        onnx_in.load(path, batch=None)
    with pytest.raises(UsageError, match="takes 3x8x8"):
        onnx_in.load(path, [(3, 9, 9)])
    assert main(["export", str(path), "--arch", "mobilenet_v2"]) == 2


@pytest.mark.parametrize("kind", [np.float16, np.float64])
def test_other_widths_become_float32_with_a_note(path: Path, kind: Any) -> None:
    code = TensorProto.FLOAT16 if kind is np.float16 else TensorProto.DOUBLE
    weight = np.full((4, 3, 1, 1), 1 / 3, kind)
    path.write_bytes(model(weights=[array("w", weight)], kind=code).SerializeToString())
    read = onnx_in.load(path)
    (parameter,) = read.model.parameters()
    assert parameter.dtype.itemsize == 4
    assert np.array_equal(parameter.numpy(), weight.astype(np.float32))
    assert read.notes == (f"weights of type {'float16' if kind is np.float16 else 'double'} were converted to float32",)
