"""``--watch`` from top to bottom: the manifest, the golden set, the device's own check, the tables, the report."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

import ulsam_deploy as ud
from tests.ulsam_deploy.graph.watching.networks import SIDE, small
from ulsam_deploy.cli import main
from ulsam_deploy.device.errors import UsageError
from ulsam_deploy.device.findings import AttentionState, Verdict
from ulsam_deploy.device.parity import Golden
from ulsam_deploy.device.verify import verify_bundle

Export = Callable[..., ud.Bundle]
SHAPE = (3, 2 * SIDE, 2 * SIDE)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> ud.Bundle:
    """The network with CBAM in fp32 and fp16."""
    into = tmp_path_factory.mktemp("watched") / "b"
    return ud.export(small("cbam"), "onnx", inputs=(SHAPE,), precisions=("fp32", "fp16"), output=into)


def test_every_artifact_says_what_is_left_of_each_gate(bundle: ud.Bundle) -> None:
    for artifact in bundle.manifest.artifacts:
        report = artifact.evidence.parity
        assert report is not None
        (gate,) = report.gates
        assert (gate.block, gate.state) == ("attention", AttentionState.KEPT)
        assert artifact.evidence.verdict is Verdict.PASS
        assert (gate.outputs is not None) == (artifact.precision == "fp16")  # read at the gate


def test_a_device_finds_the_same_without_the_network(bundle: ud.Bundle) -> None:
    assert bundle.golden is not None
    golden = Golden.load(bundle.golden)
    assert golden.gates == ("attention",)
    assert list(golden.gates_inside) == ["onnx-fp16"]
    for checked in verify_bundle(bundle):
        assert checked.evidence is not None
        assert checked.evidence.parity == checked.record.evidence.parity


def test_tables_and_report_show_it(bundle: ud.Bundle, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", str(bundle.root)]) == 0
    assert "gates 1.00" in capsys.readouterr().out
    page = (bundle.root / "report.html").read_text()
    assert "Retention of each attention gate" in page
    assert "attention: retention 1.00 kept" in page


def test_verify_says_how_many_are_kept(bundle: ud.Bundle, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", str(bundle.root)]) == 0
    assert "2 of 2 attention gates seen to be kept" in capsys.readouterr().out


@pytest.mark.long
def test_none_are_watched_if_none_are_wanted(tmp_path: Path) -> None:
    bundle = ud.export(small("se"), "onnx", inputs=(SHAPE,), watch="none", output=tmp_path / "b")
    report = bundle.manifest.artifacts[0].evidence.parity
    assert report is not None
    assert report.gates == ()


@pytest.mark.long
def test_a_named_module_is_watched_whatever_is_in_it(tmp_path: Path) -> None:
    bundle = ud.export(small("plain"), "onnx", inputs=(SHAPE,), watch=["attention"], output=tmp_path / "b")
    report = bundle.manifest.artifacts[0].evidence.parity
    assert report is not None
    assert [(gate.block, gate.state) for gate in report.gates] == [("attention", AttentionState.KEPT)]


@pytest.mark.parametrize("watch", [["auto", "attention"], []])
def test_words_for_all_and_paths_are_not_mixed(watch: list[str], tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        ud.export(small("se"), "onnx", inputs=(SHAPE,), watch=watch, output=tmp_path / "b")
