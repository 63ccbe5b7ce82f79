"""Each target works with its own extra alone: the packages of the other extras are made impossible to import."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from ulsam_deploy.cli import main

#: What each extra brings besides torch and what torch brings (see pyproject.toml).
PACKAGES = {
    "onnx": {"onnx", "onnxscript", "onnxsim", "onnxruntime"},
    "openvino": {"openvino", "nncf"},
    "tflite": {"litert_torch", "ai_edge_litert", "ai_edge_quantizer"},
    "trt": {"onnx", "onnxscript", "onnxsim", "onnxruntime", "tensorrt_rtx"},
}

RUN = """
import sys
from importlib.machinery import PathFinder

find_spec = PathFinder.find_spec

def find_what_is_installed(name, path=None, target=None):
    return None if name.split(".")[0] in {absent} else find_spec(name, path, target)

PathFinder.find_spec = find_what_is_installed
from ulsam_deploy.cli import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "small.pt"
    assert main(f"new mobilenet_v1 --insert 9 --width 0.25 --classes 4 --input 3x32x32 -o {path}".split()) == 0
    return path


@pytest.mark.parametrize("target", PACKAGES)
def test_a_target_needs_only_its_own_extra(target: str, model: Path, tmp_path: Path) -> None:
    absent = set().union(*PACKAGES.values()) - PACKAGES[target] | {"sklearn"}
    words = ["export", str(model), "--target", target, "-o", str(tmp_path / "m.bundle"), "--no-cache"]
    done = subprocess.run(
        [sys.executable, "-c", RUN.format(absent=absent), *words], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert ("unverified" if target == "trt" else "pass") in done.stdout
