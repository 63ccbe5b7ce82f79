"""The pipeline end to end on a small network: what a user's first command does, and what a failing target does."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest

import ulsam_deploy as ud
from ulsam_deploy.device.bundle import read_bundle
from ulsam_deploy.device.errors import Exit, RefusedError, UsageError
from ulsam_deploy.device.findings import Verdict
from ulsam_deploy.device.progress import Progress
from ulsam_deploy.device.types import EvidenceLevel
from ulsam_deploy.exporting import pipeline
from ulsam_deploy.exporting.options import ExportOptions
from ulsam_deploy.load import source


@pytest.fixture(scope="module")
def exported(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> pipeline.Exported:
    options = ExportOptions(checkpoint, output=tmp_path_factory.mktemp("out") / "m.bundle")
    return pipeline.export(options, Progress(quiet=True))


def test_every_engine_here_passes_and_tensorrt_claims_no_more_than_it_reached(exported: pipeline.Exported) -> None:
    assert exported.exit_code == Exit.OK
    assert exported.bundle
    found = {a.target: a.evidence for a in exported.bundle.manifest.artifacts}
    assert set(found) == {"onnx", "openvino", "tflite", "trt"}
    for target in ("onnx", "openvino", "tflite"):
        assert (found[target].verdict, found[target].level) == (Verdict.PASS, EvidenceLevel.EXECUTED)
        parity = found[target].parity
        assert parity
        assert max(output.error for output in parity.outputs) < 8
        assert [block.state for block in parity.blocks] == ["kept"] * 4
    assert found["trt"].verdict is Verdict.UNVERIFIED
    assert found["trt"].level <= EvidenceLevel.COMPILED


def test_the_bundle_is_sound_and_describes_the_model(exported: pipeline.Exported) -> None:
    assert exported.bundle
    bundle = read_bundle(exported.bundle.root)
    bundle.verify_integrity()
    card = bundle.manifest.model
    assert (card.network, card.config["insert"], card.config["substitute"]) == ("mobilenet_v2", (3, 6, 10), (13,))
    assert [block.path for block in card.blocks] == ["attention.3", "attention.6", "attention.10", "features.13"]
    assert [(block.height, block.subspaces) for block in card.blocks] == [(24, 4), (12, 4), (6, 4), (6, 4)]


def test_open_runs_an_artifact_like_the_network(exported: pipeline.Exported) -> None:
    assert exported.bundle
    images = np.random.default_rng(0).normal(size=(1, 1, 96, 96)).astype(np.float32)
    results = []
    for target in ("onnx", "openvino", "tflite"):
        with ud.open(exported.bundle, target, threads=1) as session:
            results.append(session.run(images))
            with pytest.raises(UsageError, match="shape 2x1x96x96") as wrong:
                session.run(np.concatenate([images, images]))
            assert "--batch 2" in str(wrong.value)
    np.testing.assert_allclose(results[0], results[1], rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(results[0], results[2], rtol=1e-3, atol=1e-4)


def test_verify_finds_the_same_again_and_refuses_a_changed_byte(exported: pipeline.Exported, tmp_path: Path) -> None:
    assert exported.bundle
    checked = ud.verify(exported.bundle, targets=["onnx"])
    assert [c.evidence.verdict for c in checked if c.evidence] == [Verdict.PASS]
    copy = tmp_path / "copy.bundle"
    shutil.copytree(exported.bundle.root, copy)
    data = bytearray((copy / "onnx" / "model.onnx").read_bytes())
    data[len(data) // 2] ^= 1
    (copy / "onnx" / "model.onnx").write_bytes(data)
    with pytest.raises(RefusedError, match=r"onnx/model\.onnx"):
        ud.verify(copy)


def test_a_second_export_comes_from_the_cache_without_torch(
    checkpoint: Path, exported: pipeline.Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise AssertionError("the network was loaded again")

    monkeypatch.setattr(source, "load", fail)
    options = ExportOptions(checkpoint, output=tmp_path / "b.bundle")
    second = pipeline.export(options, Progress(quiet=True))
    assert exported.bundle
    assert second.bundle
    assert exported.bundle.manifest == second.bundle.manifest
    with pytest.raises(AssertionError, match="loaded again"):
        pipeline.export(dataclasses.replace(options, batch=2), Progress(quiet=True))


def test_a_target_that_cannot_be_made_does_not_stop_the_others(small_model: Path, tmp_path: Path) -> None:
    options = ExportOptions(
        small_model, targets=("tflite", "openvino"), batch=None, output=tmp_path / "d.bundle", cache=False
    )
    result = pipeline.export(options, Progress(quiet=True))
    assert result.exit_code == Exit.UNAVAILABLE
    assert result.bundle
    assert [a.target for a in result.bundle.manifest.artifacts] == ["openvino"]
    assert result.bundle.manifest.artifacts[0].inputs[0].shape == (None, 3, 32, 32)
    refused = {o.target: str(o.error) for o in result.outcomes if o.error}
    assert "--batch 1" in refused["tflite"]


def test_a_level_that_cannot_be_reached_here_is_exit_4(checkpoint: Path, tmp_path: Path) -> None:
    options = ExportOptions(checkpoint, targets=("trt",), output=tmp_path / "t.bundle", require=EvidenceLevel.EXECUTED)
    result = pipeline.export(options, Progress(quiet=True))
    assert result.bundle
    reached = result.bundle.manifest.artifacts[0].evidence.level
    assert result.exit_code == (Exit.OK if reached >= EvidenceLevel.EXECUTED else Exit.UNAVAILABLE)
