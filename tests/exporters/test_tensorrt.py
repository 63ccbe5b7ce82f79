"""The kit: what TensorRT of each generation is told, and how far the evidence goes."""

from __future__ import annotations

import json

import pytest

from ulsam_deploy.contracts import Tier
from ulsam_deploy.exporters import tensorrt, trtexec


def test_all_generations_can_read_the_model(made):
    facts = made("trt", None).artifact.facts
    assert facts["opset"] == 17
    assert list(facts["trtexec"]) == ["8.6", "10.0-10.11", "10.12-10.16", "11", "rtx"]


def test_dynamic_batch_has_a_profile_in_the_recipe_and_in_the_command(made):
    kit = made("trt", None)
    recipe = json.loads(kit.files[1].read_text())
    assert recipe["profiles"]["input"] == {"min": [1, 3, 32, 32], "opt": [1, 3, 32, 32], "max": [16, 3, 32, 32]}
    for line in recipe["trtexec"].values():
        assert "--minShapes=input:1x3x32x32 --optShapes=input:1x3x32x32 --maxShapes=input:16x3x32x32" in line


def test_strongly_typed_is_asked_for_where_it_is_a_choice(made):
    lines = made("trt", None).artifact.facts["trtexec"]
    assert [name for name, line in lines.items() if "--stronglyTyped" in line] == ["10.12-10.16"]
    assert all("--noTF32" in line for line in lines.values())
    assert lines["rtx"].startswith("tensorrt_rtx --onnx=model.onnx --saveEngine=model.plan ")
    assert not any("--fp16" in line or "--int8" in line for line in lines.values())


@pytest.mark.parametrize(
    ("opset", "device", "expected"),
    [
        (17, "jetson-orin-jp6", ("10.0-10.11",)),
        (17, "jetson-thor-jp7", ("10.12-10.16",)),
        (18, "", ("10.0-10.11", "10.12-10.16", "11", "rtx")),
        (17, "x86-64", tuple(trtexec.GENERATIONS)),
    ],
)
def test_device_chooses_its_generation(opset, device, expected):
    assert tensorrt._generations(opset, device) == expected


def test_evidence_is_compiled_for_a_desktop_and_only_parsed_for_a_jetson(made):
    pytest.importorskip("tensorrt_rtx", reason="TensorRT for RTX is not installed")
    kit = made("trt", None)
    assert kit.artifact.tier == Tier.COMPILED
    assert kit.artifact.facts["evidence"]["network_layers"]["SOFTMAX"] == 2
    builder = kit.runtime.builder
    recipe = builder.Recipe.from_json(kit.files[1].read_text())
    tier, evidence = tensorrt._evidence(builder, kit.files[0].read_bytes(), recipe, "jetson-orin-jp6")
    assert tier == Tier.PARSED
    assert evidence == kit.artifact.facts["evidence"]


def test_without_the_parser_nothing_is_claimed(made, monkeypatch):
    monkeypatch.setattr(tensorrt, "PARSER", "no_such_parser")
    assert tensorrt._evidence(None, b"", None, "") == (Tier.EXPORTED, {})
