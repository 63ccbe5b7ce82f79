"""``ulsam-deploy build``: what it says where no engine can be built; on a GPU it is covered by the runtime's tests."""

from __future__ import annotations

import json

import pytest

from ulsam_deploy.cli import main
from ulsam_deploy.runtimes import cuda, trt_engine
from ulsam_deploy.runtimes.tensorrt import TensorRT


@pytest.mark.skipif(not cuda.missing(), reason="there is a GPU")
def test_without_a_gpu_it_is_unavailable_and_writes_nothing(tmp_path, capsys):
    assert main(["build", str(tmp_path / "trt"), "-o", str(tmp_path / "engine")]) == 4
    assert "NVIDIA" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_an_engine_is_never_put_into_a_bundle(tmp_path, capsys):
    (tmp_path / "manifest.json").write_text("{}")
    assert main(["build", str(tmp_path / "trt")]) == 2
    assert "outside the bundle" in capsys.readouterr().err


def test_it_says_where_the_engine_is(tmp_path, capsys, monkeypatch):
    """With the parts that need a GPU replaced: the module, the machine and the builder."""
    monkeypatch.setattr(TensorRT, "_module", classmethod(lambda cls: None))
    monkeypatch.setattr(cuda, "machine", lambda: None)
    monkeypatch.setattr(trt_engine, "build_kit", lambda kit, output, trt, here, force: output / "model.plan")
    assert main(["build", str(tmp_path / "trt"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["engine"] == str(tmp_path / "trt.engine" / "model.plan")
