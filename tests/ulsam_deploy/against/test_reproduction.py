"""A reproduction runs with numpy and the engine alone, whichever engine it is, and is short."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from ulsam_deploy.against import reproduction
from ulsam_deploy.against.case import Case
from ulsam_deploy.device import plugins
from ulsam_deploy.device.bundle import Bundle
from ulsam_deploy.device.runtime import Runtime

from ..handmade import make_bundle


@dataclass(frozen=True)
class Engine:
    """What a reproduction needs of the guarded process: the engine's class."""

    engine: type[Runtime]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return make_bundle(tmp_path_factory.mktemp("reproduction") / "dense.bundle", batch=2, width=8)


@pytest.mark.parametrize(
    ("target", "engine", "lines"), [("onnx", "onnxruntime", 10), ("openvino", "openvino", 10), ("tflite", "tflite", 14)]
)
def test_it_shows_the_difference_with_public_tools(
    bundle: Bundle, tmp_path: Path, target: str, engine: str, lines: int
) -> None:
    """This ``.tflite`` has no signature, and is run tensor by tensor."""
    record = bundle.artifact(target)
    ports = {spec.name: spec for spec in record.inputs}, {spec.name: spec for spec in record.outputs}
    case = Case(Engine(plugins.load(plugins.RUNTIMES, engine)), bundle.files(record), *ports)
    inputs = {"x": np.ones((2, 8), np.float32)}
    with plugins.load(plugins.RUNTIMES, engine)(bundle.files(record), record.inputs, record.outputs) as runtime:
        found, facts = runtime.run(inputs), runtime.facts()
    expected = {"y": found["y"].astype(np.float64) + np.linspace(0, 0.25, 16).reshape(2, 8)}
    reproduction.write(tmp_path, case, inputs, expected, found, facts)
    script = (tmp_path / "reproduce.py").read_text()
    assert len([line for line in script.splitlines() if line]) <= lines
    assert "ulsam" not in script
    done = subprocess.run([sys.executable, "reproduce.py"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "y: differs by up to 0.25" in done.stdout
