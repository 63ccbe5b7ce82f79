"""``ulsam-deploy build``: what it says where no engine can be built; on a GPU it is covered by the runtime's tests."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ulsam_deploy.cli import main
from ulsam_deploy.runtimes.tensorrt import cuda, engine
from ulsam_deploy.runtimes.tensorrt.runtime import TensorRT


@pytest.fixture
def kit(tmp_path: Path):
    """A folder that looks like a kit, in a place of its own."""
    (tmp_path / "made" / "trt").mkdir(parents=True)
    (tmp_path / "made" / "trt" / "build.json").write_text("{}")
    return tmp_path / "made" / "trt"


@pytest.mark.skipif(not cuda.missing(), reason="there is a GPU")
def test_without_a_gpu_it_is_unavailable_and_writes_nothing(
    kit: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["build", str(kit), "-o", str(tmp_path / "engine")]) == 4
    assert "NVIDIA" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == [kit.parent]


@pytest.mark.parametrize("folder", [".", "/", "..", "nowhere"])
def test_what_is_no_kit_is_said_before_anything_is_asked_of_the_machine(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, folder: str
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["build", folder]) == 2
    assert "is no TensorRT kit" in capsys.readouterr().err


def test_the_folder_that_one_is_in_has_a_name(
    kit: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(kit)
    monkeypatch.setattr(TensorRT, "_module", classmethod(lambda cls: None))
    monkeypatch.setattr(cuda, "machine", lambda: None)
    monkeypatch.setattr(engine, "build_kit", lambda kit, output, trt, here, force: output / "model.plan")
    assert main(["build", "."]) == 0
    assert f"{kit}.engine/model.plan" in capsys.readouterr().out


def test_an_engine_is_never_put_into_a_bundle(kit: Any, capsys: pytest.CaptureFixture[str]) -> None:
    (kit.parent / "manifest.json").write_text("{}")
    assert main(["build", str(kit)]) == 2
    assert "outside the bundle" in capsys.readouterr().err


def test_it_says_where_the_engine_is(
    kit: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the parts that need a GPU replaced: the module, the machine and the builder."""
    monkeypatch.setattr(TensorRT, "_module", classmethod(lambda cls: None))
    monkeypatch.setattr(cuda, "machine", lambda: None)
    monkeypatch.setattr(engine, "build_kit", lambda kit, output, trt, here, force: output / "model.plan")
    assert main(["build", str(kit), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["engine"] == f"{kit}.engine/model.plan"
