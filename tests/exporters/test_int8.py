"""ONNX and OpenVINO in int8 and float16: attention and kept modules in float, and ablations that lack one block."""

from __future__ import annotations

from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from ulsam_deploy.device import plugins
from ulsam_deploy.device.third_party import load_openvino
from ulsam_deploy.device.types import Artifact, Calibration
from ulsam_deploy.exporters import dot_product
from ulsam_deploy.graph import Evaluator, capture
from ulsam_deploy.graph.interfaces import ExportRequest
from ulsam_deploy.inputs.calibration import digest

from .precisions import export, golden, opened, outputs, programs

TARGETS = ("onnx", "openvino")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """``made(target, precision)``: the artifact and its folder, each made once."""

    @cache
    def make(target: str, precision: str, keep: tuple[str, ...] = ()) -> tuple[Artifact, Path]:
        folder = tmp_path_factory.mktemp(f"{target}-{precision}")
        return export(target, precision, folder, keep), folder

    return make


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_the_result_is_near_and_the_engine_says_what_it_computes_in(made: Any, target: str, precision: str) -> None:
    artifact, folder = made(target, precision)
    (right,) = golden().outputs.values()
    error = np.abs(outputs(target, artifact, folder) - right).max() / np.ptp(right)
    assert 1e-7 < error < {"fp16": 5e-3, "int8": 0.1}[precision]
    with opened(target, artifact, folder) as session:
        facts = session.facts()
    wanted = {("openvino", "fp16"): "fp32"}  # its weights are float16, and this processor computes in float32
    assert facts.precision == wanted.get((target, precision), precision)
    assert sum(facts.layer_precisions.values()) > 10


@pytest.mark.parametrize("target", TARGETS)
def test_all_products_but_those_of_attention_are_in_int8(made: Any, target: str) -> None:
    facts = made(target, "int8")[0].facts
    assert facts.quantized.quantized_products == 4  # three convolutions and the classifier
    assert facts.quantized.products - facts.quantized.quantized_products == 4  # gate and scores of two blocks
    kept = made(target, "int8", ("6",))[0].facts
    assert kept.quantized.quantized_products == 3
    assert kept.quantized.kept_operators > facts.quantized.kept_operators


def test_onnx_rounds_around_products_and_attention_reads_what_was_not_rounded(made: Any) -> None:
    artifact, folder = made("onnx", "int8")
    model = onnx.load(folder / artifact.files[0])
    made_by = {name: node for node in model.graph.node for name in node.output}
    rounded = {node.output[0] for node in model.graph.node if node.op_type == "DequantizeLinear"}
    readers = Counter(node.op_type for node in model.graph.node if rounded & set(node.input))
    assert (readers["Conv"], readers["Gemm"]) == (3, 1)
    pools = [node for node in model.graph.node if node.op_type == "MaxPool"]
    assert len(pools) == 2
    for pool in pools:  # a block's gate: a convolution and a ReLU in front of the pool
        gate = made_by[made_by[pool.input[0]].input[0]]
        assert gate.op_type == "Conv"
        assert gate.input[0] not in rounded
        users = [node for node in model.graph.node if gate.input[0] in node.input]
        assert len(users) >= 2, "the product with the maps reads the same"


def test_onnx_rounds_behind_a_clip_and_drops_it_but_for_attention(made: Any) -> None:
    def clips(precision: str) -> int:
        artifact, folder = made("onnx", precision)
        return [node.op_type for node in onnx.load(folder / artifact.files[0]).graph.node].count("Clip")

    assert clips("fp32") == 3  # behind the three convolutions; attention reads the first two
    assert clips("int8") == 2


def test_without_attention_ranges_are_the_mean_and_the_logits_are_not_clipped(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 3)).eval()
    samples = torch.randn(16, 3, 8, 8) * torch.linspace(0.1, 4, 16).reshape(-1, 1, 1, 1)
    program = capture(network, [(3, 8, 8)], 1)
    arrays = {program.inputs[0].name: samples.numpy()}
    request = ExportRequest("int8", calibration=Calibration(arrays, digest(arrays)))
    plugins.load(plugins.EXPORTERS, "onnx").export(program, request, tmp_path)
    model = onnx.load(tmp_path / "model.onnx")
    constants = {one.name: onnx.numpy_helper.to_array(one) for one in model.graph.initializer}
    grids = {n.input[0]: [constants[k].item() for k in n.input[1:]] for n in model.graph.node if len(n.input) == 3
             and n.op_type == "QuantizeLinear"}  # fmt: skip
    flat = samples.reshape(16, -1)
    mean = float((flat.amax(1) - flat.amin(1)).mean())
    assert grids[program.inputs[0].name][0] == pytest.approx(mean / 255, rel=1e-4)
    (last,) = [node.output[0] for node in model.graph.node if node.op_type == "Gemm"]
    step, zero = grids[last]
    with torch.no_grad():
        logits = network(samples)
    assert step * (255 - zero) >= float(logits.max()) - step
    assert step * -zero <= float(logits.min()) + step


@pytest.mark.parametrize(
    ("machine", "flags", "pairs"),
    [("x86_64", "avx2 avx512f", True), ("x86_64", "avx2 avx_vnni", False), ("aarch64", "", False)],
)
def test_weights_have_7_bits_only_where_sums_of_pairs_overflow(
    machine: str, flags: str, pairs: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    described = tmp_path / "cpuinfo"
    described.write_text(f"model name\t: x\nflags\t\t: fpu {flags}\n")
    monkeypatch.setattr(dot_product, "CPUINFO", described)
    monkeypatch.setattr(dot_product.platform, "machine", lambda: machine)
    dot_product.adds_pairs_in_16_bits.cache_clear()
    levels = {target: plugins.load(plugins.EXPORTERS, target).weight_levels() for target in (*TARGETS, "tflite", "trt")}
    dot_product.adds_pairs_in_16_bits.cache_clear()
    assert levels == {"onnx": 64 if pairs else 127, "openvino": 63 if pairs else 127, "tflite": 127, "trt": 127}


def test_openvino_stores_weights_in_int8(made: Any) -> None:
    artifact, folder = made("openvino", "int8")
    model = load_openvino().Core().read_model(folder / artifact.files[0])
    kinds = Counter(
        op.get_element_type().get_type_name()
        for op in model.get_ops()
        if op.get_type_name() == "Constant" and np.prod(op.output(0).get_shape()) > 100
    )
    assert kinds["i8"] >= 3
    softmaxes = [op for op in model.get_ops() if op.get_type_name() == "Softmax"]
    assert len(softmaxes) == 2


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("block", [0, 1])
def test_a_ablation_is_the_network_without_that_block(made: Any, target: str, block: int, tmp_path: Path) -> None:
    artifact, folder = made(target, "fp32")
    exporter = plugins.load(plugins.EXPORTERS, target)
    assert exporter.ablate(folder / artifact.files[0], range(block, block + 1), tmp_path)
    _, ablations = Evaluator(programs()[1]).ablations([torch.from_numpy(golden().inputs["input"][:1])])
    (right,), (reference,) = ablations[block].values(), golden().outputs.values()
    step = right.numpy() - reference[:1]
    moved = outputs(target, artifact, tmp_path)[:1] - outputs(target, artifact, folder)[:1]
    np.testing.assert_allclose(moved, step, atol=0.05 * np.abs(step).max())


@pytest.mark.parametrize("target", TARGETS)
def test_there_is_no_ablation_without_a_block_that_does_not_exist(made: Any, target: str, tmp_path: Path) -> None:
    artifact, folder = made(target, "int8")
    assert plugins.load(plugins.EXPORTERS, target).ablate(folder / artifact.files[0], range(1, 3), tmp_path) is False
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("target", TARGETS)
def test_the_same_bytes_again(made: Any, target: str, tmp_path: Path) -> None:
    artifact, folder = made(target, "int8")
    export(target, "int8", tmp_path)
    for name in artifact.files:
        assert (tmp_path / name).read_bytes() == (folder / name).read_bytes()
