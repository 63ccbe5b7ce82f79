"""Artifacts carry nothing of the machine that made them, and are the same bytes in every process."""

from __future__ import annotations

import getpass
import hashlib
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import onnx
import pytest

MADE = {"tflite": 4, "openvino": None, "trt": None, "onnx": None}

EXPORT_ALL = """
import sys, hashlib, pathlib
sys.path.insert(0, sys.argv[1])
from tests import conftest
for target, batch in eval(sys.argv[3]).items():
    folder = pathlib.Path(sys.argv[2], target)
    folder.mkdir()
    for file in conftest.export_small(target, batch, folder).files:
        print(target, file.name, hashlib.sha256(file.read_bytes()).hexdigest())
"""


@pytest.mark.long
@pytest.mark.parametrize("target", MADE)
def test_no_trace_of_this_machine(made: Any, target: Any) -> None:
    traces = [
        str(Path.cwd()),
        str(Path.home()),
        sys.prefix,
        "site-packages",
        f"/{getpass.getuser()}",
        "conftest",
        "/tmp",
    ]
    for file in made(target, MADE[target]).files:
        content = file.read_bytes()
        assert not [trace for trace in traces if trace.encode() in content], file.name


def test_onnx_model_has_no_metadata_left(made: Any) -> None:
    for target in ("onnx", "trt"):
        text = str(onnx.load(made(target, None).files[0]))
        assert "metadata_props" not in text
        assert "doc_string" not in text


@pytest.mark.parametrize("target", ["onnx", "openvino"])
def test_same_bytes_again_in_the_same_process(made: Any, export_again: Any, target: str) -> None:
    first, second = made(target, None), export_again(target, None)
    for name in first.artifact.files:
        assert (first.folder / name).read_bytes() == (second.folder / name).read_bytes(), name


@pytest.mark.long
def test_same_bytes_in_another_process_of_another_user(made: Any, tmp_path: Path) -> None:
    here = [
        f"{target} {file.name} {hashlib.sha256(file.read_bytes()).hexdigest()}"
        for target, batch in MADE.items()
        for file in made(target, batch).files
    ]
    command = [
        sys.executable,
        "-c",
        EXPORT_ALL,
        str(Path(__file__).parents[2]),
        str(tmp_path),
        repr(MADE),
    ]
    environment = {
        **os.environ, "PYTHONHASHSEED": "12345", "HOME": str(tmp_path), "USER": "somebody", "LOGNAME": "somebody",
    }  # fmt: skip
    other = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path, check=True)
    assert other.stdout.splitlines() == here
