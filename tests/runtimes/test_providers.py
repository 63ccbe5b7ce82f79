"""``--provider`` of ONNX Runtime: what it runs on is named, and a silent way back to the CPU is an error.

The last tests need the package onnxruntime-gpu; the others put a stand-in in its place.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ulsam_deploy.cli import main
from ulsam_deploy.device.errors import UnavailableError, UsageError
from ulsam_deploy.runtimes.onnxruntime.providers import Provider
from ulsam_deploy.runtimes.tensorrt import cuda

onnxruntime: Any = pytest.importorskip("onnxruntime")
GPU = ["TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"]


@pytest.fixture
def claims_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """A package with GPU providers on a machine with a GPU, on which no provider starts: as with a missing cuDNN."""
    opened = onnxruntime.InferenceSession

    def open_on_cpu(model, options, *, providers, enable_fallback):
        assert (providers[1], enable_fallback) == ("CPUExecutionProvider", 0)
        return opened(model, options, providers=["CPUExecutionProvider"])

    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: GPU)
    monkeypatch.setattr(onnxruntime, "InferenceSession", open_on_cpu)
    monkeypatch.setattr(cuda, "missing", lambda: "")


@pytest.mark.parametrize("name", ["cuda", "tensorrt"])
def test_falling_back_silently_is_an_error(made: Any, claims_a_gpu: None, name: str) -> None:
    with pytest.raises(UnavailableError, match="did not start: ONNX Runtime fell back to CPUExecutionProvider"):
        made("onnx", 4).session(provider=name).__enter__()


def test_a_provider_that_cannot_open_the_model_is_an_error(
    made: Any, claims_a_gpu: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise RuntimeError("Please install TensorRT")

    monkeypatch.setattr(onnxruntime, "InferenceSession", refuse)
    with pytest.raises(UnavailableError, match="TensorrtExecutionProvider did not start: Please install TensorRT"):
        made("onnx", 4).session(provider="tensorrt").__enter__()


def test_the_package_without_gpu_is_named(made: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: GPU[2:])
    with pytest.raises(UnavailableError, match=r"has no CUDAExecutionProvider") as error:
        made("onnx", 4).session(provider="cuda").__enter__()
    assert "onnxruntime-gpu" in error.value.todo


@pytest.mark.skipif(not cuda.missing(), reason="there is a GPU")
def test_a_machine_without_a_gpu_is_named(made: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: GPU)
    with pytest.raises(UnavailableError, match="CUDAExecutionProvider needs an NVIDIA GPU: no NVIDIA driver"):
        made("onnx", 4).session(provider="cuda").__enter__()


def kernels(**counts: int) -> list[dict[str, Any]]:
    return [{"args": {"provider": name}} for name, count in counts.items() for _ in range(count)]


def test_operators_that_run_elsewhere_are_counted() -> None:
    found = Provider("cuda").kernels(kernels(CUDAExecutionProvider=3, CPUExecutionProvider=1))
    assert found == {"kernels on CPUExecutionProvider": 1, "kernels on CUDAExecutionProvider": 3}


def test_a_provider_that_runs_nothing_is_an_error() -> None:
    with pytest.raises(UnavailableError, match="all 2 operators of this model elsewhere: none on CUDAExec"):
        Provider("cuda").kernels(kernels(CPUExecutionProvider=2))


def test_the_cpu_can_be_asked_for(made: Any) -> None:
    with made("onnx", 4).session(provider="cpu") as session:
        assert (session.facts().provider, session.facts().gpu) == ("CPUExecutionProvider", "")


@pytest.mark.parametrize("target", ["onnx", "openvino"])
def test_an_unknown_provider_is_refused(made: Any, target: str) -> None:
    with pytest.raises(UsageError, match="has no provider 'npu'"):
        made(target, 4).session(provider="npu")


@pytest.fixture(scope="module")
def bundle(small_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("providers") / "small.bundle"
    assert main(["export", str(small_model), "--target", "onnx,tflite", "-o", str(output)]) == 0
    return output


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        ("verify BUNDLE --provider cuda", 4, "onnxruntime 1.* has no CUDAExecutionProvider"),
        ("verify BUNDLE --provider cpu --target onnx", 0, ""),
        ("verify BUNDLE --provider cuda --target tflite", 2, "no artifact here runs on provider 'cuda'"),
        ("verify BUNDLE --provider npu", 2, "no artifact here runs on provider 'npu'*cuda for onnx artifacts"),
        ("verify BUNDLE --provider cuda --device rpi4", 2, "--provider is for this machine"),
        ("verify BUNDLE/onnx/model.onnx --against BUNDLE --provider cuda", 2, "--provider is for bundles"),
        ("bench BUNDLE --provider cuda --target onnx", 4, "has no CUDAExecutionProvider"),
        ("bench BUNDLE --provider npu", 2, "no artifact here runs on provider 'npu'"),
    ],
)
def test_a_command_uses_the_provider_or_refuses_it(
    bundle: Path, words: str, code: int, told: str, capfd: pytest.CaptureFixture[str]
) -> None:
    if code == 4 and "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this onnxruntime has CUDA")
    assert main(words.replace("BUNDLE", str(bundle)).split()) == code
    said = capfd.readouterr().err.replace("\n", " ")
    for part in told.split("*"):
        assert part in said


@pytest.mark.gpu
@pytest.mark.skipif(bool(cuda.missing()), reason="needs an NVIDIA GPU")
@pytest.mark.skipif(GPU[1] not in onnxruntime.get_available_providers(), reason="needs onnxruntime-gpu")
def test_an_artifact_runs_on_cuda_as_pytorch_does(made: Any) -> None:
    kit = made("onnx", None)
    with kit.session(provider="cuda") as session:
        facts = session.facts()
        found = session.run({"input": kit.images(3)})["logits"]
    expected = kit.reference(kit.images(3))
    assert (facts.provider, bool(facts.gpu)) == ("CUDAExecutionProvider", True)
    assert np.abs(found - expected).max() / np.abs(expected).max() < 1e-5
