"""What to type for an engine that is missing: its own package, as the machine at hand can get it."""

from __future__ import annotations

import shlex
import sys

import pytest

from ulsam_deploy.device import plugins, third_party
from ulsam_deploy.runtimes import advice
from ulsam_deploy.runtimes.advice import Here
from ulsam_deploy.runtimes.tensorrt import cuda

PI = Here(arm_32=False, jetson=False, python=(3, 13))
PI_32 = Here(arm_32=True, jetson=False, python=(3, 11))
PI_32_NEW = Here(arm_32=True, jetson=False, python=(3, 13))
JETSON = Here(arm_32=False, jetson=True, python=(3, 10))


@pytest.mark.parametrize(
    ("engine", "on", "said"),
    [
        ("onnxruntime", PI, "pip install onnxruntime"),
        ("onnxruntime", JETSON, "pip install onnxruntime"),
        ("onnxruntime", PI_32, "no wheels for 32-bit ARM"),
        ("openvino", PI, "pip install openvino"),
        ("openvino", PI_32, "no wheels for 32-bit ARM"),
        ("ncnn", PI, "pip install ncnn"),
        ("ncnn", PI_32, "no wheels for 32-bit ARM"),
        ("tflite", PI, "pip install ai-edge-litert"),
        ("tflite", JETSON, "pip install ai-edge-litert"),
        ("tflite", PI_32, "pip install tflite-runtime 'numpy<2'"),
        ("tflite", PI_32_NEW, "take Python 3.11"),
        ("tensorrt", JETSON, "sudo apt-get install python3-libnvinfer"),
        ("tensorrt", PI, "pip install tensorrt"),
        ("cuda", JETSON, "sudo apt-get install nvidia-jetpack"),
        ("cuda", PI, "libcudart"),
    ],
)
def test_advice_fits_the_machine(engine: str, on: Here, said: str) -> None:
    told = getattr(advice, engine)(on)
    assert said in told
    assert not ("pip" in told and on.jetson and engine == "tensorrt"), "pip has no TensorRT for a Jetson"
    shlex.split(told)  # as it would be pasted


@pytest.mark.parametrize(
    ("machine", "size", "is_32"),
    [
        ("armv7l", 2**31 - 1, True),
        ("aarch64", 2**31 - 1, True),
        ("aarch64", 2**63 - 1, False),
        ("x86_64", 2**63 - 1, False),
    ],
)
def test_what_counts_is_the_python_and_not_the_kernel(
    machine: str, size: int, is_32: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(advice.platform, "machine", lambda: machine)
    monkeypatch.setattr(sys, "maxsize", size)
    assert advice.here().arm_32 is is_32


@pytest.mark.parametrize("name", ["ncnn", "onnxruntime", "openvino", "tensorrt", "tflite"])
def test_an_engine_never_names_an_extra_of_the_host(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = plugins.load(plugins.RUNTIMES, name)
    monkeypatch.setattr(third_party, "find_spec", lambda _: None)
    monkeypatch.setattr(cuda, "missing", lambda: "")
    here = engine.available()
    assert not here.usable
    assert here.todo
    assert "ulsam-deploy" not in here.todo


@pytest.mark.parametrize("target", sorted(plugins.registered(plugins.EXPORTERS)))
def test_an_engine_states_every_precision_that_its_exporter_makes(target: str) -> None:
    exporter = plugins.load(plugins.EXPORTERS, target)
    engine = plugins.load(plugins.RUNTIMES, exporter.runtime)
    assert set(exporter.precisions) == set(engine.precisions)
