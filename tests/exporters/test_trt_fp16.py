"""fp16 kits: types, ranges, what the vendor builds, and whether the attention survives the rounding."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from ulsam_deploy.device.errors import ExportError
from ulsam_deploy.device.findings import Verdict
from ulsam_deploy.device.types import EvidenceLevel
from ulsam_deploy.exporters import lowerings
from ulsam_deploy.exporters.onnx.fp16 import to_fp16
from ulsam_deploy.exporters.tensorrt import rounding
from ulsam_deploy.exporters.tensorrt import study as trt_study
from ulsam_deploy.exporters.tensorrt.exporter import EXPORTER
from ulsam_deploy.exporters.tensorrt.lint.graph import LintGraph
from ulsam_deploy.graph.interfaces import ExportRequest

from .trt_kits import HALF, exported, fused, golden, wide
from .trt_networks import one, parsed, rtx


@pytest.fixture(scope="module")
def kit(tmp_path_factory: pytest.TempPathFactory):
    rtx()
    folder = tmp_path_factory.mktemp("fp16")
    return exported(fused(1)[1], HALF, folder), folder


def test_everything_between_the_casts_is_float16(kit: Any) -> None:
    artifact, folder = kit
    model = onnx.load(folder / "model.onnx")
    graph = LintGraph.of(model)
    ends = {v.name for v in (*model.graph.input, *model.graph.output)}
    assert [graph.type_name(name) for name in ("input", "logits")] == ["FLOAT", "FLOAT"]
    assert {graph.type_name(name) for name in graph.types if name not in ends} == {"FLOAT16", "INT64"}
    assert artifact.facts.operators["Softmax"] == 2
    assert all(not messages for messages in artifact.facts.lint.values())


def test_vendor_builds_engines_and_what_they_compute_in_is_listed(kit: Any) -> None:
    artifact, _ = kit
    assert artifact.level == EvidenceLevel.COMPILED
    engines = artifact.facts.tensorrt.engines
    assert list(engines) == ["SM86", "SM75", "SM80", "SM89", "SM120"]
    for name, engine in engines.items():
        assert engine.types["Half"] > engine.types.get("Float", 0), name
        assert any("softmax" in fusion for fusion in engine.fusions), name


def test_weakly_typed_generations_are_told_of_fp16(kit: Any) -> None:
    lines = kit[0].facts.tensorrt.trtexec
    assert [name for name, line in lines.items() if "--fp16" in line] == ["10.0-10.11", "8.6"]
    assert [name for name, line in lines.items() if "--stronglyTyped" in line] == ["10.12-10.16"]


def test_the_interpreter_agrees_with_another_engine_in_fp16(kit: Any) -> None:
    """ONNX Runtime on the same file: both round each stored tensor, so they differ by less than a few roundings."""
    _, folder = kit
    content = (folder / "model.onnx").read_bytes()
    image = golden().inputs["input"][:1]
    found = parsed(content).run({"input": image}, rounding.STORED)["logits"]
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    (expected,) = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"]).run(
        None, {"input": image}
    )
    assert np.abs(found - expected).max() < 4 * 2**-11 * np.abs(expected).max()


def test_study_gives_a_band_and_finds_the_attention_alive(kit: Any) -> None:
    artifact, folder = kit
    study = EXPORTER.study(artifact, folder, golden())
    assert study.verdict is Verdict.UNVERIFIED, study.reasons
    assert set(study.facts.models) == {"fused", "stored", "accumulated"}
    assert [block.state for block in study.facts.survival] == ["kept", "kept"]
    assert "three models of fp16 rounding" in study.reasons[-1].text


def test_study_of_a_kit_with_another_weight_fails(kit: Any, tmp_path: Path) -> None:
    artifact, folder = kit
    model = onnx.load(folder / "model.onnx")
    biggest = max(model.graph.initializer, key=lambda t: len(t.raw_data) if t.data_type == TensorProto.FLOAT16 else 0)
    values = numpy_helper.to_array(biggest) * np.float16(1.5)
    biggest.CopyFrom(numpy_helper.from_array(values, biggest.name))
    onnx.save(model, tmp_path / "model.onnx")
    study = EXPORTER.study(artifact, tmp_path, golden())
    assert study.verdict is Verdict.FAIL
    assert any("noise floors from the reference" in reason.text for reason in study.reasons)


def test_attention_that_fp16_erases_is_a_failure_that_names_the_block(tmp_path: Path) -> None:
    rtx()
    program, truth = wide(112)
    study = EXPORTER.study(exported(program, HALF, tmp_path), tmp_path, truth)
    assert study.verdict is Verdict.FAIL
    (block,) = study.facts.survival
    assert (block.state, abs(block.value) < 1e-6) == ("lost", True)
    assert study.reasons[-1].text.startswith("In fp16 the attention of block '0")
    assert study.reasons[-1].text.endswith("export with --precision fp32.")


def test_the_separate_form_keeps_more_of_a_large_map(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """56x56: ``1 + a`` in float16 is 1 or 1.001, ``x + a * x`` is rounded element by element."""
    rtx()
    program, truth = wide(56)
    left = {}
    for lowering in (lowerings.broadcast, lowerings.separate):
        monkeypatch.setattr(type(EXPORTER), "lowering", lambda self, request, chosen=lowering: chosen)
        folder = tmp_path / lowering.__name__
        folder.mkdir()
        study = EXPORTER.study(exported(program, HALF, folder), folder, truth)
        (block,) = study.facts.survival
        left[lowering.__name__] = block.value
    assert left["broadcast"] < 0.5 < left["separate"]


def test_single_precision_study_names_the_error_and_the_retention(tmp_path: Path) -> None:
    rtx()
    artifact = exported(fused(1)[1], ExportRequest(), tmp_path)
    study = EXPORTER.study(artifact, tmp_path, golden())
    assert study.verdict is Verdict.UNVERIFIED
    assert study.facts.parsed.verdict is Verdict.PASS
    assert "retention 1.00 1.00" in study.reasons[-1].text
    other = dataclasses.replace(golden(), outputs={"logits": golden().outputs["logits"] * 1.001})  # the check bites
    study = EXPORTER.study(artifact, tmp_path, other)
    assert study.verdict is Verdict.FAIL


def test_a_weight_beyond_float16_is_refused() -> None:
    model = one("Mul", {"x": [1, 2]}, {"y": [1, 2]}, w=np.array([1, 7e4], np.float32))
    with pytest.raises(ExportError, match="reaches 7e"):
        to_fp16(model)


def test_bounds_that_mean_none_stay_the_largest_number() -> None:
    model = one("Clip", {"x": [1, 2]}, {"y": [1, 2]}, low=np.float32(0), high=np.finfo(np.float32).max)
    held = {t.name: numpy_helper.to_array(t) for t in to_fp16(model).graph.initializer}
    assert held["high"] == np.finfo(np.float16).max


def test_an_output_that_is_read_inside_as_well_keeps_its_readers() -> None:
    nodes = [helper.make_node("Relu", ["x"], ["y"]), helper.make_node("Neg", ["y"], ["z"])]
    ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 2]) for name in "xyz"]
    graph = helper.make_graph(nodes, "g", ports[:1], ports[1:])
    model = to_fp16(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8))
    found = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"]).run(
        None, {"x": np.array([[-1, 2]], np.float32)}
    )
    np.testing.assert_array_equal(found, [[[0, 2]], [[0, -2]]])


def test_probes_are_spread_in_whole_batches() -> None:
    assert trt_study.spread(24, 1) == [0, 3, 7, 10, 13, 16, 20, 23]
    assert len(trt_study.spread(24, 16)) == 16
    assert trt_study.spread(3, 1) == [0, 1, 2]


def test_sums_are_rounded_after_each_chunk_only_where_asked() -> None:
    ones = np.ones((1, 4096), np.float32) * np.float32(1.0)
    column = np.full((4096, 1), 0.3, np.float32)
    exact = rounding.product(ones, column, 0)[0, 0]
    rounded = rounding.product(ones, column, 16)[0, 0]
    assert abs(exact - 4096 * 0.3) < 0.1
    assert 1 < abs(rounded - exact) < 40


def test_what_onnx_defines_as_float32_stays_so() -> None:
    """The scales of Resize: as a weight of its own, one that a product reads too, a constant node, and computed."""
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 2, *name * 2]) for name in ("x", "y"))
    scales = np.array([1, 1, 1.7, 1.7], np.float32)
    nodes = [
        helper.make_node("Constant", [], ["own"], value=numpy_helper.from_array(scales)),
        helper.make_node("Resize", ["x", "", "weight"], ["a"], name="r0"),
        helper.make_node("Resize", ["a", "", "own"], ["b"], name="r1"),
        helper.make_node("Mul", ["weight", "weight"], ["computed"]),
        helper.make_node("Resize", ["b", "", "computed"], ["y"], name="r2"),
    ]
    graph = helper.make_graph(nodes, "g", [x], [y], [numpy_helper.from_array(scales, "weight")])
    plain = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    half = to_fp16(plain)
    image = np.random.default_rng(0).normal(size=(1, 2, 10, 10)).astype(np.float32)
    run = [onnxruntime.InferenceSession(m.SerializeToString()).run(None, {"x": image})[0] for m in (plain, half)]
    assert run[0].shape == run[1].shape
    np.testing.assert_allclose(run[0], run[1], atol=0.01)
    held = {tensor.name: tensor.data_type for tensor in half.graph.initializer}
    assert held == {
        "weight": TensorProto.FLOAT16,
        "weight_float32": TensorProto.FLOAT,
        "own_float32": TensorProto.FLOAT,
    }
