"""How to install a missing engine on this machine: the engine's own package, never an extra of ulsam-deploy.

An engine may be missing on a board, where only ``runner.pyz`` of this project is present. Wheels for each machine as of
2026-11. Standard library only; device-safe.
"""

from __future__ import annotations

import platform
import sys
from dataclasses import dataclass

from ulsam_deploy.device.bench.board import Board

#: The newest Python that tflite-runtime has wheels for; 32-bit ARM has no other engine.
TFLITE_RUNTIME_PYTHON = (3, 11)
NO_GPU = "run the kit on a machine with an NVIDIA GPU and TensorRT"
_NOT_32_BIT = "take the tflite artifact, or a 64-bit system: {name} has no wheels for 32-bit ARM"


@dataclass(frozen=True)
class Here:
    """What the choice of a package depends on. ``arm_32``: *Python* is a 32-bit ARM build, whatever the kernel is."""

    arm_32: bool
    jetson: bool
    python: tuple[int, int]


def here() -> Here:
    """This machine and the running Python."""
    arm = platform.machine().startswith(("arm", "aarch64"))
    return Here(arm and sys.maxsize < 2**32, Board().is_jetson, sys.version_info[:2])


def onnxruntime(on: Here | None = None) -> str:
    """How to install ONNX Runtime ``on`` a machine; default: on this one."""
    return _NOT_32_BIT.format(name="ONNX Runtime") if (on or here()).arm_32 else "pip install onnxruntime"


def onnxruntime_gpu(on: Here | None = None) -> str:
    """How to install ONNX Runtime with CUDA, which takes the place of the package without."""
    if (on or here()).jetson:
        return "install NVIDIA's wheel of onnxruntime-gpu for this JetPack"
    return "pip uninstall onnxruntime; pip install 'onnxruntime-gpu[cuda,cudnn]'"


def openvino(on: Here | None = None) -> str:
    """How to install OpenVINO."""
    return _NOT_32_BIT.format(name="OpenVINO") if (on or here()).arm_32 else "pip install openvino"


def ncnn(on: Here | None = None) -> str:
    """How to install ncnn."""
    return _NOT_32_BIT.format(name="ncnn") if (on or here()).arm_32 else "pip install ncnn"


def tflite(on: Here | None = None) -> str:
    """How to install LiteRT; on 32-bit ARM its predecessor, which was built for NumPy 1."""
    on = on or here()
    if not on.arm_32:
        return "pip install ai-edge-litert"
    if on.python <= TFLITE_RUNTIME_PYTHON:
        return "pip install tflite-runtime 'numpy<2'"
    return "take Python 3.11, or a 64-bit system: tflite-runtime has no 32-bit wheels for a newer Python"


def tflite_runtime(on: Here | None = None) -> str:
    """How to have LiteRT's predecessor: beside NumPy 1, and so not beside the tools that export."""
    if (on or here()).python > TFLITE_RUNTIME_PYTHON:
        return "verify with Python 3.11 as well: tflite-runtime has no wheels for a newer one"
    return (
        "pip install tflite-runtime 'numpy<2' in an environment of its own, and name its Python in "
        "ULSAM_DEPLOY_PYTHON_TFLITE_RUNTIME"
    )


def tflite_micro(machine: str = "") -> str:
    """How to install TFLite Micro's interpreter on a ``machine``; default: on this one."""
    if (machine or platform.machine()) != "x86_64":
        return "verify on x86-64 as well: tflite-micro has no wheels for anything else"
    return "pip install tflite-micro"


def tensorrt(on: Here | None = None) -> str:
    """How to install TensorRT's Python module on a machine with a GPU; a Jetson has it from JetPack, not from pip."""
    if (on or here()).jetson:
        return "sudo apt-get install python3-libnvinfer, and use /usr/bin/python3 (or a venv --system-site-packages)"
    return "pip install tensorrt"


def cuda(on: Here | None = None) -> str:
    """How to install the CUDA runtime."""
    if (on or here()).jetson:
        return "sudo apt-get install nvidia-jetpack"
    return "install the CUDA runtime (libcudart), or name its folder in LD_LIBRARY_PATH"
