"""onnx's native code runs elsewhere: whatever a file does to it there ends in words here."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnx")
pytest.importorskip("torch")

from ulsam_deploy.cli import main
from ulsam_deploy.device import external_data
from ulsam_deploy.device.elsewhere import job
from ulsam_deploy.device.errors import ExportError
from ulsam_deploy.load import onnx as onnx_in
from ulsam_deploy.load.onnx import unfolding
from ulsam_deploy.load.onnx.unfolding import OnnxFile, Unfolded

from ....hostile import graphs


@pytest.fixture
def path(tmp_path: Path) -> Path:
    graphs.write(lambda: graphs.named("one"), tmp_path)
    return tmp_path / "model.onnx"


def crashes(file: OnnxFile) -> Unfolded:
    os.kill(os.getpid(), signal.SIGSEGV)
    return Unfolded({}, 0)


def never_ends(file: OnnxFile) -> Unfolded:
    time.sleep(600)
    return Unfolded({}, 0)


def takes_all_memory(file: OnnxFile) -> Unfolded:
    np.ones(1 << 40, np.uint8)
    return Unfolded({}, 0)


def writes(file: OnnxFile) -> Unfolded:
    Path(file.path).with_name("planted").write_text("x")
    return Unfolded({}, 0)


HARM = {
    crashes: "reading model.onnx crashed (signal SIGSEGV)",
    never_ends: "reading model.onnx took longer than 3 seconds",
    takes_all_memory: "reading model.onnx needed more memory",
}


@pytest.mark.parametrize("does", HARM)
def test_harm_ends_in_words(
    does: Any, path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    real = job.do
    monkeypatch.setattr(unfolding, "SECONDS", 3.0 if does is never_ends else 60.0)
    monkeypatch.setattr(job, "do", lambda function, *more: real(does, *more))
    assert main(["export", str(path), "--target", "onnx", "--no-cache"]) == 3
    said = capsys.readouterr().err
    assert HARM[does] in said
    assert "-limit" not in said  # these options are for artifacts


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has the jail")
def test_what_takes_over_the_checker_can_only_read(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = job.do
    monkeypatch.setattr(job, "do", lambda function, *more: real(writes, *more))
    try:
        onnx_in.load(path)
    except ExportError:
        assert not path.with_name("planted").exists()
    else:
        pytest.fail("it was read")


def test_the_checker_never_runs_in_this_process(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("checker.check_model", "inliner.inline_local_functions", "shape_inference.infer_shapes"):
        monkeypatch.setattr(f"onnx.{name}", lambda *_, **__: pytest.fail("it ran here"))
    assert onnx_in.load(path).shapes == ((4,),)


def test_a_file_of_many_small_parts_is_refused_before_it_is_parsed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An empty operator takes two bytes in the file and fifty times as much when it is parsed."""
    nodes = b"\n\0" * 100_000
    length = bytes([len(nodes) & 127 | 128, len(nodes) >> 7 & 127 | 128, len(nodes) >> 14])
    path = tmp_path / "model.onnx"
    path.write_bytes(b"\x3a" + length + nodes)
    monkeypatch.setattr(external_data, "_MOST_FIELDS", 50_000)
    monkeypatch.setattr(job, "do", lambda *_: pytest.fail("it was parsed"))
    for read in (onnx_in.load, onnx_in.digest):
        with pytest.raises(ExportError, match="more than 50,000 fields"):
            read(path)
