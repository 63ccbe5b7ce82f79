"""What people call a target: everywhere the same, and a backend says it of itself."""

from __future__ import annotations

from importlib.metadata import EntryPoint
from typing import Any

import pytest

from ulsam_deploy.device import plugins
from ulsam_deploy.device.errors import UsageError
from ulsam_deploy.device.findings import EngineFacts
from ulsam_deploy.device.runtime import Runtime
from ulsam_deploy.device.targets import canonical, check_targets, parse_targets
from ulsam_deploy.device.types import Availability

NAMES = {
    "onnx": ("onnx", "ONNX", "ort", "onnxruntime", "ONNX-Runtime"),
    "openvino": ("OpenVINO", "ov", "open_vino"),
    "tflite": ("TFLite", "tf-lite", "litert", "LiteRT", "ai-edge-litert", "tensorflow_lite"),
    "trt": ("TRT", "TensorRT", "tensorrt", "tensorrt-rtx", "TensorRT_RTX"),
    "all": ("all", "ALL"),
    "coreml": ("coreml",),  # nobody's word stays as it is: a bundle may hold what no engine here runs
}


class Toy(Runtime):
    name = "toyengine"
    target = "toy"
    aliases = ("Plaything", "ort")

    @classmethod
    def available(cls) -> Availability:
        return Availability(True, "")

    def _load(self) -> None: ...

    def _run(self, inputs: dict[str, Any]) -> dict[str, Any]:
        return inputs

    def _close(self) -> None: ...

    def facts(self) -> EngineFacts:
        return EngineFacts("toy", "1")


@pytest.mark.parametrize(("target", "word"), [(target, word) for target, words in NAMES.items() for word in words])
def test_what_people_call_a_target(target: str, word: str) -> None:
    assert canonical(word) == target


def test_commas_repetition_and_blanks() -> None:
    assert parse_targets(["onnx, LiteRT", "ORT", ",trt,"]) == ("onnx", "tflite", "trt")


def test_a_third_partys_backend_has_names_too(monkeypatch: pytest.MonkeyPatch) -> None:
    known = plugins.registered(plugins.RUNTIMES)
    theirs = {**known, "toyengine": EntryPoint("toyengine", f"{__name__}:Toy", plugins.RUNTIMES)}
    real = plugins.registered
    monkeypatch.setattr(plugins, "registered", lambda group: theirs if group == plugins.RUNTIMES else real(group))
    monkeypatch.setattr(plugins, "load", lambda group, name: Toy if name == "toyengine" else LOAD(group, name))
    assert [canonical(word) for word in ("toy", "TOY", "toyengine", "plaything")] == ["toy"] * 4
    assert canonical("ort") == "onnx", "the first engine that claims a name has it"


LOAD = plugins.load


def test_a_board_knows_engines_and_no_exporters(monkeypatch: pytest.MonkeyPatch) -> None:
    real = plugins.registered
    monkeypatch.setattr(plugins, "registered", lambda group: {} if group == plugins.EXPORTERS else real(group))
    assert [canonical(word) for word in ("litert", "TRT", "onnx", "all")] == ["tflite", "trt", "onnx", "all"]


@pytest.mark.parametrize(("word", "near"), [("onx", "onnx"), ("tensort", "tensorrt"), ("alll", "all"), ("coreml", "")])
def test_no_target(word: str, near: str) -> None:
    with pytest.raises(UsageError, match=f"no target is called '{word}'") as caught:
        check_targets([word], ["onnx", "trt", "all"])
    assert caught.value.expected == "onnx, trt, all"
    assert caught.value.found.partition("; ")[2] == (f"did you mean '{near}'?" if near else "")
