"""TFLite in float16 and int8: what is stored in which type, what stays in float, and the ablation of a file."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ai_edge_litert.interpreter import Interpreter
from ai_edge_litert.schema_py_generated import Model, TensorType
from torch import nn

from ulsam_deploy.device.third_party import quiet
from ulsam_deploy.device.types import Artifact, Calibration
from ulsam_deploy.exporters.tflite import ablation
from ulsam_deploy.exporters.tflite import model as tflite_model
from ulsam_deploy.exporters.tflite.exporter import EXPORTER
from ulsam_deploy.exporters.torch_noise import LITERT_WARNINGS, TORCH_WARNINGS
from ulsam_deploy.graph import Evaluator, capture
from ulsam_deploy.graph.interfaces import ExportRequest
from ulsam_deploy.inputs.calibration import digest

from .precisions import calibration, export, golden, opened, outputs, plain_tflite, programs

PRECISIONS = ("fp16", "int8", "int8-dynamic")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """``made(precision)``: the artifact and its folder, each made once."""

    @cache
    def make(precision: str, keep: tuple[str, ...] = ()) -> tuple[Artifact, Path]:
        folder = tmp_path_factory.mktemp(precision)
        return export("tflite", precision, folder, keep), folder

    return make


def read(made: Any, precision: str, keep: tuple[str, ...] = ()) -> Any:
    artifact, folder = made(precision, keep)
    return tflite_model.read((folder / artifact.files[0]).read_bytes())


def types(model: Any, kind: str) -> list[tuple[str, str]]:
    """Element types of the weights (or second operand) and of the result, for each operator of one kind."""
    names = {number: name for name, number in vars(TensorType).items() if isinstance(number, int)}
    graph = model.subgraphs[0]
    return [
        (names[graph.tensors[op.inputs[1]].type], names[graph.tensors[op.outputs[0]].type])
        for op in graph.operators
        if tflite_model.kind_of(model, op) == kind
    ]


@pytest.mark.parametrize("precision", PRECISIONS)
def test_every_weight_is_inside_the_flatbuffer(precision: str, tmp_path: Path) -> None:
    """TFLite Micro and interpreters of older phones read a buffer behind it as empty, and compute something else."""
    wide = capture(torch.nn.Sequential(torch.nn.Conv2d(3, 512, 16), torch.nn.Flatten()).eval(), [(3, 16, 16)])
    arrays = {wide.inputs[0].name: np.random.default_rng(0).normal(size=(16, 3, 16, 16)).astype(np.float32)}
    ranges = Calibration(arrays, digest(arrays)) if precision == "int8" else None
    artifact = EXPORTER.export(wide, ExportRequest(precision, calibration=ranges), tmp_path)
    model = Model.GetRootAsModel((tmp_path / artifact.files[0]).read_bytes(), 0)
    buffers = [model.Buffers(index) for index in range(model.BuffersLength())]
    assert [buffer.Offset() for buffer in buffers] == [0] * len(buffers)
    weights = 3 * 512 * 16 * 16
    assert sum(buffer.DataLength() for buffer in buffers) > weights * (2 if precision == "fp16" else 1)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_inputs_and_outputs_stay_float32_and_the_result_is_near(made: Any, precision: str) -> None:
    artifact, folder = made(precision)
    with opened("tflite", artifact, folder) as session:
        assert {spec.dtype for ports in session.ports() for spec in ports} == {"float32"}
    (right,) = golden().outputs.values()
    error = np.abs(outputs("tflite", artifact, folder) - right).max() / np.ptp(right)
    assert error < {"fp16": 2e-3, "int8": 0.1, "int8-dynamic": 0.1}[precision]
    assert error > 1e-7, "something was rounded"


def test_int8_computes_products_in_int8_and_attention_in_float(made: Any) -> None:
    model, (artifact, _) = read(made, "int8"), made("int8")
    convolutions, attention = types(model, "CONV_2D"), types(model, "DIV") + types(model, "MUL")
    assert attention == [("FLOAT32", "FLOAT32")] * 4
    # The two in front of blocks compute in int8 and give float; spreads and scores of both blocks are in float.
    assert sorted(convolutions) == [("FLOAT32", "FLOAT32")] * 4 + [("INT8", "FLOAT32")] * 2 + [("INT8", "INT8")]
    assert artifact.facts.attention == "float"
    assert (artifact.facts.quantized.products, artifact.facts.quantized.quantized_products) == (10, 4)


def test_dynamic_int8_stores_weights_and_rounds_nothing_else(made: Any) -> None:
    model = read(made, "int8-dynamic")
    assert sorted(types(model, "CONV_2D")) == [("FLOAT32", "FLOAT32")] * 4 + [("INT8", "FLOAT32")] * 3
    assert not types(model, "QUANTIZE")


def test_fp16_stores_every_weight_in_half(made: Any) -> None:
    from ai_edge_litert.schema_py_generated import TensorType

    model = read(made, "fp16")
    stored = [tensor for tensor in model.subgraphs[0].tensors if tensor.type == TensorType.FLOAT16]
    assert len(stored) == sum(len(types(model, kind)) for kind in ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"))
    assert made("fp16")[0].facts.attention == "float"


def test_kept_modules_stay_in_float(made: Any) -> None:
    """Module 6 is the last convolution, 10 the classifier."""
    model = read(made, "int8", ("6", "10"))
    assert types(model, "FULLY_CONNECTED") == [("FLOAT32", "FLOAT32")]
    assert ("INT8", "INT8") not in types(model, "CONV_2D")
    assert types(read(made, "int8"), "FULLY_CONNECTED") == [("INT8", "INT8")]


def test_ranges_are_the_extremes_and_no_average(made: Any) -> None:
    """The first quantized tensor is the picture: its scale is its whole range over the set by 255."""
    model = read(made, "int8")
    graph = model.subgraphs[0]
    first = next(op for op in graph.operators if tflite_model.kind_of(model, op) == "QUANTIZE")
    scale = float(graph.tensors[first.outputs[0]].quantization.scale[0])
    pictures = calibration().arrays["input"]
    assert scale == pytest.approx(np.ptp(pictures) / 255, rel=1e-3)


def test_without_attention_ranges_are_the_mean_and_the_logits_are_not_clipped(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 3)).eval()
    samples = torch.randn(16, 3, 8, 8) * torch.linspace(0.1, 4, 16).reshape(-1, 1, 1, 1)
    program = capture(network, [(3, 8, 8)], 1)
    arrays = {program.inputs[0].name: samples.numpy()}
    EXPORTER.export(program, ExportRequest("int8", calibration=Calibration(arrays, digest(arrays))), tmp_path)
    model = tflite_model.read((tmp_path / "model.tflite").read_bytes())
    graph = model.subgraphs[0]
    made = {tflite_model.kind_of(model, op): graph.tensors[op.outputs[0]].quantization for op in graph.operators}
    flat = samples.reshape(16, -1)
    mean = float((flat.amax(1) - flat.amin(1)).mean())
    assert float(made["QUANTIZE"].scale[0]) == pytest.approx(mean / 255, rel=1e-4)
    step, zero = float(made["FULLY_CONNECTED"].scale[0]), int(made["FULLY_CONNECTED"].zeroPoint[0])
    with torch.no_grad():
        logits = network(samples)
    assert step * (127 - zero) >= float(logits.max()) - step
    assert step * (-128 - zero) <= float(logits.min()) + step


@pytest.mark.parametrize("block", [0, 1])
def test_the_ablation_of_a_float_file_is_the_network_without_that_block(made: Any, block: int, tmp_path: Path) -> None:
    artifact, folder = made("fp16")
    assert EXPORTER.ablate(folder / artifact.files[0], range(block, block + 1), tmp_path)
    images = torch.from_numpy(golden().inputs["input"][:1])
    _, ablations = Evaluator(programs()[1]).ablations([images])
    (right,) = ablations[block].values()
    whole = outputs("tflite", artifact, folder)[:1]
    found = outputs("tflite", artifact, tmp_path)[:1]
    (reference,) = golden().outputs.values()
    step = right.numpy() - reference[:1]
    np.testing.assert_allclose(found - whole, step, atol=0.05 * np.abs(step).max())


@pytest.mark.parametrize("precision", PRECISIONS)
def test_an_ablation_differs_in_every_precision_and_only_by_the_maps(made: Any, precision: str, tmp_path: Path) -> None:
    artifact, folder = made(precision)
    content = (folder / artifact.files[0]).read_bytes()
    edited = ablation.ablated(content, range(1, 2))
    assert edited is not None
    before, after = tflite_model.read(content), tflite_model.read(edited)
    assert len(after.subgraphs[0].operators) == len(before.subgraphs[0].operators)
    assert len(after.buffers) == len(before.buffers)
    assert ablation.ablated(content, range(2, 3)) is None
    assert EXPORTER.ablate(folder / artifact.files[0], range(2, 3), tmp_path) is False
    assert not list(tmp_path.iterdir())


def test_a_softmax_in_int8_by_anybody_is_taken_as_zero(tmp_path: Path) -> None:
    """One operator, in and out in int8: behind it, only the bias of the last layer is left."""
    import litert_torch

    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Linear(12, 8), torch.nn.Softmax(1), torch.nn.Linear(8, 3)).eval()
    rows = np.random.default_rng(0).normal(size=(32, 1, 12)).astype(np.float32)
    with quiet(*TORCH_WARNINGS, *LITERT_WARNINGS):
        litert_torch.convert(network, (torch.zeros(1, 12),)).export(str(tmp_path / "float.tflite"))
    content = plain_tflite((tmp_path / "float.tflite").read_bytes(), [{"args_0": row} for row in rows])
    model = tflite_model.read(content)
    (softmax,) = ablation.softmaxes(model)
    assert tflite_model.kind_of(model, softmax) == "SOFTMAX"
    assert [model.subgraphs[0].tensors[i].type for i in (*softmax.inputs, *softmax.outputs)] == [TensorType.INT8] * 2
    edited = ablation.ablated(content, range(1))
    assert edited is not None
    whole, dead = (first_output(file, rows[0]) for file in (content, edited))
    bias = network[2].bias.detach().numpy()
    np.testing.assert_allclose(dead[0], bias, atol=0.01)
    assert np.abs(whole[0] - bias).max() > 0.05


def first_output(content: bytes, row: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    found: np.ndarray[Any, Any] = next(
        iter(Interpreter(model_content=content).get_signature_runner()(args_0=row).values())
    )
    return found


def test_the_same_bytes_again(made: Any, tmp_path: Path) -> None:
    artifact, folder = made("int8")
    export("tflite", "int8", tmp_path)
    assert (tmp_path / artifact.files[0]).read_bytes() == (folder / artifact.files[0]).read_bytes()
