"""The kit: what TensorRT of each generation is told, what lints and evidence say, and how far it goes."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime.quantization as ort_quantization
import pytest

from ulsam_deploy.device.errors import ExportError, UnavailableError
from ulsam_deploy.device.profiles import devices
from ulsam_deploy.device.types import EvidenceLevel
from ulsam_deploy.exporters.tensorrt import evidence as trt_evidence
from ulsam_deploy.exporters.tensorrt import exporter, trtexec
from ulsam_deploy.runtimes.tensorrt import builder

from .trt_networks import parsed, rtx


def test_all_generations_can_read_the_model(made: Any) -> None:
    facts = made("trt", None).artifact.facts
    assert facts.extra["opset"] == 17
    assert set(facts.tensorrt.trtexec) == set(trtexec.GENERATIONS)
    assert set(facts.lint) == {name for name, found in devices().items() if found.tensorrt}
    assert not any(facts.lint.values())


def test_every_profile_names_a_known_dialect() -> None:
    assert {found.tensorrt.generation for found in devices().values() if found.tensorrt} == set(trtexec.GENERATIONS)


def test_dynamic_batch_has_a_profile_in_the_recipe_and_in_the_command(made: Any) -> None:
    kit = made("trt", None)
    recipe = json.loads(kit.files[1].read_text())
    assert recipe["profiles"]["input"] == {"min": [1, 3, 32, 32], "opt": [1, 3, 32, 32], "max": [16, 3, 32, 32]}
    for line in recipe["trtexec"].values():
        assert "--minShapes=input:1x3x32x32 --optShapes=input:1x3x32x32 --maxShapes=input:16x3x32x32" in line


def test_strongly_typed_is_asked_for_where_it_is_a_choice(made: Any) -> None:
    lines = made("trt", None).artifact.facts.tensorrt.trtexec
    assert [name for name, line in lines.items() if "--stronglyTyped" in line] == ["10.12-10.16"]
    assert all("--noTF32" in line for line in lines.values())
    assert lines["rtx"].startswith("tensorrt_rtx --onnx=model.onnx --saveEngine=model.plan ")
    assert not any("--fp16" in line or "--int8" in line or "DLA" in line for line in lines.values())


@pytest.mark.parametrize(
    ("device", "expected"),
    [
        ("jetson-orin-jp6", {"jetson-orin-jp6": "10.0-10.11"}),
        ("jetson-thor-jp7", {"jetson-thor-jp7": "10.12-10.16"}),
        ("desktop-rtx", {"desktop-rtx": "rtx"}),
    ],
)
def test_device_chooses_its_generation(device: str, expected: Any) -> None:
    assert {name: profile.generation for name, profile in exporter._profiles(device).items()} == expected


def test_a_device_without_an_nvidia_gpu_has_no_kit() -> None:
    with pytest.raises(UnavailableError, match="rpi5 has no NVIDIA GPU"):
        exporter._profiles("rpi5")


def test_a_model_that_some_devices_refuse_has_no_command_for_them(made: Any) -> None:
    model = onnx.load(made("trt", 4).files[0])
    model.opset_import[0].version = 18
    everywhere = exporter._lint(model, exporter._profiles(""))
    assert [name for name, messages in everywhere.items() if messages] == ["desktop-trt8"]
    with pytest.raises(ExportError, match=r"TensorRT 8\.6 \(desktop-trt8\) refuses the model: the model has opset 18"):
        exporter._lint(model, exporter._profiles("desktop-trt8"))


def test_evidence_is_compiled_for_a_desktop_and_only_parsed_for_a_jetson(made: Any) -> None:
    trt, kit = rtx(), made("trt", None)
    assert kit.artifact.level == EvidenceLevel.COMPILED
    assert kit.artifact.facts.tensorrt.network_layers["SOFTMAX"] == 2
    recipe = builder.EngineRecipe.from_json(kit.files[1].read_text())
    level, evidence = trt_evidence.evidence(trt, builder, kit.files[0].read_bytes(), recipe, jetson=True)
    assert level == EvidenceLevel.PARSED
    assert dataclasses.replace(evidence, trtexec=kit.artifact.facts.tensorrt.trtexec) == kit.artifact.facts.tensorrt


def test_engine_inventory_lists_layers_types_and_fusions_and_refusals_in_words(made: Any) -> None:
    rtx()
    engines = made("trt", None).artifact.facts.tensorrt.engines
    assert tuple(engines) == trt_evidence.CAPABILITIES
    assert "FP32 GEMM is not supported" in engines["SM75"].refused
    for name in ("SM80", "SM86", "SM89", "SM120"):
        assert sum(engines[name].layers.values()) > 10
        assert engines[name].types["Float"] > 10
        assert "node_Conv_109 + n4" in engines[name].fusions
    assert "it refused SM75" in trt_evidence.words(made("trt", None).artifact.facts.tensorrt)


def test_what_does_not_compile_is_parsed_and_no_more() -> None:
    class Builder:
        parse = staticmethod(lambda trt, content: builder.Parsed({"CONVOLUTION": 1}))

        @staticmethod
        def build(trt, content, recipe, capability):
            raise ExportError("no tactic")

    level, facts = trt_evidence.evidence(rtx(), Builder, b"", None, jetson=False)
    assert level == EvidenceLevel.PARSED
    assert facts.engines["SM86"].refused == "no tactic"


def test_without_the_parser_nothing_is_claimed(made: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trt_evidence, "PARSER", "no_such_parser")
    assert trt_evidence.parser() is None
    kit = made("trt", None)
    assert exporter.EXPORTER.study(kit.artifact, kit.folder, None) is None


class Images(ort_quantization.CalibrationDataReader):
    def __init__(self, images):
        self._left = iter([{"input": image[None]} for image in images])

    def get_next(self):
        return next(self._left, None)


def quantized(kit, path, **options):
    """The kit's model in ONNX Runtime's QDQ form; by default in the form that TensorRT reads."""
    for_tensorrt = {
        "op_types_to_quantize": ["Conv", "Gemm"],
        "per_channel": True,
        "extra_options": {"ActivationSymmetric": True, "WeightSymmetric": True, "QuantizeBias": False},
    }
    ort_quantization.quantize_static(
        kit.files[0],
        path,
        Images(kit.images(4)),
        activation_type=ort_quantization.QuantType.QInt8,
        weight_type=ort_quantization.QuantType.QInt8,
        **(options or for_tensorrt),
    )
    return path.read_bytes()


@pytest.mark.parametrize("batch", [1, None])
def test_int8_in_the_documented_form_parses_builds_and_means_what_it_should(
    made: Any, tmp_path: Path, batch: int | None
) -> None:
    trt, kit = rtx(), made("trt", batch)
    content = quantized(kit, tmp_path / "q.onnx")
    network = parsed(content)
    assert len(network.softmaxes) == 2
    images = kit.images(1)
    found, expected = network.run({"input": images})["logits"], kit.reference(images)
    assert np.abs(found - expected).max() / np.abs(expected).max() < 0.2
    recipe = builder.EngineRecipe.from_json(kit.files[1].read_text())
    recipe = builder.EngineRecipe(hashlib.sha256(content).hexdigest(), "int8", recipe.profiles)
    built = builder.build(trt, content, recipe, capability="SM86")
    assert built.parsed.layers["QUANTIZE"] > 5
    assert trt_evidence.inventory(built.listing).types["Int8"] > 5


def test_int8_in_onnx_runtimes_default_form_is_refused_with_the_parsers_words_and_by_the_lint(
    made: Any, tmp_path: Path
) -> None:
    from ulsam_deploy.exporters.tensorrt.lint.operators import lint_tensorrt

    kit, path = made("trt", 1), tmp_path / "q.onnx"
    content = quantized(kit, path, per_channel=False)
    with pytest.raises(ExportError, match="refused the model"):
        builder.parse(rtx(), content)
    found = {item.rule for item in lint_tensorrt(onnx.load(path), devices()["jetson-orin-jp6"].tensorrt)}
    assert "quantized" in found
