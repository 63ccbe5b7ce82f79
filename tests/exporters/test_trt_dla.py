"""The DLA form: the same function in 4-D operators, and how it would be placed."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from ulsam_deploy.device.types import EvidenceLevel
from ulsam_deploy.exporters import lowerings
from ulsam_deploy.exporters.tensorrt import dla
from ulsam_deploy.exporters.tensorrt import lowerings as trt_lowerings
from ulsam_deploy.exporters.tensorrt.exporter import EXPORTER
from ulsam_deploy.graph import lower
from ulsam_deploy.graph.interfaces import ExportRequest

from .trt_kits import DLA, HALF, exported, fused, golden
from .trt_networks import model_of, rtx


@pytest.mark.parametrize(("channels", "subspaces"), [(8, 1), (8, 8), (12, 4)])
@pytest.mark.parametrize("lowering", [trt_lowerings.accelerator, lowerings.separate])
@pytest.mark.parametrize(("scale", "shift"), [(1, 0), (300, 0), (1, -50)])
def test_lowering_equals_the_operator(lowering: Any, channels: int, subspaces: int, scale: int, shift: Any) -> None:
    generator = torch.Generator().manual_seed(0)

    def random(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    x = random(3, channels, 5, 7) * scale + shift
    weights = random(channels, 1, 1, 1), random(channels), random(subspaces, channels // subspaces, 1, 1)
    arguments = (x, *weights, random(subspaces), subspaces)
    expected = torch.ops.ulsam.subspace_attention(*arguments)
    torch.testing.assert_close(lowering(*arguments), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("size", "expected"), [(7, [7]), (3, [3]), (14, [7, 2]), (16, [8, 2]), (1, [1]), (11, [])])
def test_windows_multiply_to_the_side(size: int, expected: Any) -> None:
    assert dla.windows(size) == expected


def classifier(high: int, wide: int, **gemm: object) -> onnx.ModelProto:
    node = onnx.helper.make_node
    weight = np.random.default_rng(0).normal(size=(5, 6) if gemm.get("transB") else (6, 5)).astype(np.float32)
    return model_of(
        node("ReduceMean", ["x"], ["m"], name="mean", axes=[-1, -2], keepdims=1),
        node("Reshape", ["m", "s"], ["f"], name="flat"),
        node("Gemm", ["f", "w", "b"], ["y"], name="head", **gemm),
        inputs={"x": [2, 6, high, wide]},
        outputs={"y": [2, 5]},
        s=np.array([-1, 6]),
        w=weight,
        b=np.arange(5, dtype=np.float32),
    )


@pytest.mark.parametrize(
    ("model", "operators"),
    [
        (classifier(7, 7, transB=1), ["AveragePool", "Conv", "Reshape"]),
        (classifier(14, 3), ["AveragePool", "AveragePool", "Conv", "Reshape"]),
        (classifier(11, 3), ["ReduceMean", "Conv", "Reshape"]),
        (classifier(7, 7, alpha=0.5), ["AveragePool", "Reshape", "Gemm"]),
    ],
)
def test_head_is_the_same_function_in_a_dlas_operators(model: Any, operators: Any) -> None:
    model = onnx.shape_inference.infer_shapes(model)
    lowered = dla.to_dla(model)
    assert [node.op_type for node in lowered.graph.node] == operators
    shape = [dim.dim_value for dim in model.graph.input[0].type.tensor_type.shape.dim]
    x = np.random.default_rng(1).normal(size=shape).astype(np.float32)
    expected, found = (
        onnxruntime.InferenceSession(m.SerializeToString(), providers=["CPUExecutionProvider"]).run(None, {"x": x})[0]
        for m in (model, lowered)
    )
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


@pytest.fixture(scope="module")
def kits(tmp_path_factory: pytest.TempPathFactory):
    """The DLA kit of the small network, and its ordinary fp16 model on the same forecast."""
    from ulsam_deploy.exporters.tensorrt.lint.dla import plan_dla

    rtx()
    folder = tmp_path_factory.mktemp("dla")
    artifact = exported(fused(1)[1], DLA, folder)
    from ulsam_deploy.exporters.tensorrt.exporter import _model

    ordinary = plan_dla(_model(lower(fused(1)[1], EXPORTER.lowering(HALF)), HALF)[0])
    return artifact, folder, ordinary


def test_the_whole_network_but_its_last_flattening_is_one_loadable(kits: Any) -> None:
    artifact, folder, _ = kits
    plan = artifact.facts.tensorrt.dla
    assert plan.loadables == 1
    assert [item.rule for item in plan.fallbacks] == ["Reshape"]
    assert {item.rule for item in plan.doubts} == {"Reshape"}
    shapes = dla.shapes_of(onnx.load(folder / "model.onnx"))
    assert max(map(len, shapes.values())) == 4


def test_the_ordinary_form_falls_apart(kits: Any) -> None:
    _, _, ordinary = kits
    assert ordinary.loadables > 1
    assert {"Reshape", "ReduceMean", "Gemm"} <= {item.rule for item in ordinary.fallbacks}


def test_kit_names_the_accelerator_in_recipe_command_and_words(kits: Any) -> None:
    artifact, folder, _ = kits
    assert artifact.level == EvidenceLevel.PARSED
    assert list(artifact.facts.tensorrt.trtexec) == ["10.0-10.11"]
    line = artifact.facts.tensorrt.trtexec["10.0-10.11"]
    assert "--fp16 --useDLACore=0 --allowGPUFallback" in line
    assert '"dla": true' in (folder / "build.json").read_text()
    study = EXPORTER.study(artifact, folder, golden())
    words = " ".join(map(str, study.reasons))
    assert "Forecast for the DLA: 1 loadable" in words
    assert [block.state for block in study.facts.survival] == ["kept", "kept"]


def test_the_lowering_is_chosen_by_what_is_asked() -> None:
    assert EXPORTER.lowering(DLA) is trt_lowerings.accelerator
    assert EXPORTER.lowering(HALF) is lowerings.separate
    assert EXPORTER.lowering(ExportRequest()).__name__ == "broadcast"
