"""Targets in processes of their own: the same artifacts, in the same order, and a crash takes one target along."""

from __future__ import annotations

import json
import os
import signal
import tempfile
from pathlib import Path
from typing import Any

import pytest

from ulsam_deploy.device import plugins
from ulsam_deploy.device.bundle import read_bundle
from ulsam_deploy.device.errors import Exit
from ulsam_deploy.device.progress import Progress
from ulsam_deploy.exporting import parallel, pipeline
from ulsam_deploy.exporting.build import Builder
from ulsam_deploy.exporting.network import network_stages
from ulsam_deploy.exporting.options import ExportOptions
from ulsam_deploy.exporting.plan import ExportPlan, make_plan
from ulsam_deploy.exporting.prepare import prepare
from ulsam_deploy.exporting.workspace import Workspace

pytestmark = pytest.mark.slow  # 'make test-search'


@pytest.fixture(autouse=True)
def two_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(Path(__file__).parents[3])  # processes import this module by its name
    monkeypatch.setattr(parallel, "local_workers", lambda _asked, _memory: 2)


def exported(checkpoint: Path, bundle: Path, **more: Any) -> tuple[pipeline.Exported, list[str]]:
    progress = Progress(quiet=True)
    options = ExportOptions(checkpoint, **{"targets": ("onnx", "openvino"), "output": bundle, "cache": False, **more})
    return pipeline.export(options, progress), [stage.name for stage in progress.stages]


def dies(task: parallel.Task) -> parallel.Done:
    os.kill(os.getpid(), signal.SIGKILL if task.wanted[0].target == "openvino" else signal.SIGSEGV)
    raise AssertionError


def dies_of_openvino(task: parallel.Task) -> parallel.Done:
    if task.wanted[0].target == "openvino":
        (task.handed_over / "openvino").mkdir()
        os.kill(os.getpid(), signal.SIGSEGV)
    return parallel._task(task)


def forgets_openvino(task: parallel.Task) -> parallel.Done:
    if task.wanted[0].target == "openvino":
        parallel.build = lambda *_: {}["planted"]  # type: ignore[attr-defined]
    return parallel._task(task)


def artifacts(bundle: Path) -> dict[str, bytes]:
    files = {path.relative_to(bundle).as_posix(): path.read_bytes() for path in bundle.rglob("*") if path.is_file()}
    return {name: data for name, data in files.items() if name not in ("manifest.json", "report.html")}


def without_times(bundle: Path) -> Any:
    found = json.loads((bundle / "manifest.json").read_text())
    for artifact in found["artifacts"]:
        assert artifact["evidence"].pop("latency")["p50"] > 0
    return {name: found[name] for name in ("model", "artifacts", "golden")}


@pytest.mark.parametrize("precisions", [("fp32",), ("fp32", "fp16")])
def test_what_is_made_abreast_is_what_is_made_one_by_one(
    precisions: tuple[str, ...], checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    found, stages = exported(checkpoint, tmp_path / "parallel.bundle", precisions=precisions)
    assert list(tmp_path.glob(".ulsam-deploy*")) == [], "every process tidies up after itself"
    assert len(stages[stages.index("resolution lint") :]) >= 2 * len(precisions) + 3
    assert stages[-2:] == ["targets", "bundle"]
    monkeypatch.setattr(parallel, "SMALL", 10**9)
    alone, stages = exported(checkpoint, tmp_path / "alone.bundle", precisions=precisions)
    assert "targets" not in stages
    assert found.exit_code == alone.exit_code == Exit.OK
    assert [(o.target, o.precision) for o in found.outcomes] == [(o.target, o.precision) for o in alone.outcomes]
    assert artifacts(tmp_path / "parallel.bundle") == artifacts(tmp_path / "alone.bundle")
    assert without_times(tmp_path / "parallel.bundle") == without_times(tmp_path / "alone.bundle")


def test_a_crash_takes_one_target_along(checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallel, "_task", dies_of_openvino)
    found, _ = exported(checkpoint, tmp_path / "m.bundle")
    good, bad = found.outcomes
    assert good.built
    assert bad.error
    assert "the process that made it died: 1 worker died with this task, the last one by signal 11" in bad.error.found
    assert "--target openvino" in bad.error.todo
    assert found.exit_code == Exit.EXPORT_FAILED
    assert sorted(path.name for path in (tmp_path / "m.bundle").iterdir() if path.is_dir()) == ["onnx"]


@pytest.mark.parametrize("in_parallel", [True, False])
def test_what_nobody_foresaw_in_one_target_ends_that_one_only(
    in_parallel: bool, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    if in_parallel:
        monkeypatch.setattr(parallel, "_task", forgets_openvino)
    else:
        monkeypatch.setattr(parallel, "SMALL", 10**9)
        monkeypatch.setattr(plugins.load(plugins.EXPORTERS, "openvino"), "export", lambda *_: {}["planted"])
    found, _ = exported(checkpoint, tmp_path / "m.bundle")
    good, bad = found.outcomes
    assert good.built
    assert bad.error
    assert bad.error.exit_code is found.exit_code is Exit.DEFECT
    (kept,) = tmp_path.glob("ulsam-deploy-defect-*.txt")
    assert bad.error.found.endswith(str(kept))
    assert "KeyError: 'planted'" in kept.read_text()
    assert "--target openvino" in kept.read_text()
    assert sorted(path.name for path in (tmp_path / "m.bundle").iterdir() if path.is_dir()) == ["onnx"]
    assert read_bundle(tmp_path / "m.bundle").manifest.run.left_out["openvino"] == bad.error.found


def test_nothing_is_left_where_every_process_died(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And a crash is a failure too where all targets were asked for: only what is not installed is left out."""
    monkeypatch.setattr(parallel, "_task", dies)
    found, _ = exported(checkpoint, tmp_path / "m.bundle", targets=("all",))
    assert found.bundle is None
    assert found.exit_code == Exit.EXPORT_FAILED
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "options",
    [
        {"tune": True},
        {"precisions": ("auto",)},
        {"targets": ("onnx",)},
    ],
)
def test_what_needs_this_process_or_the_whole_machine_stays_here(checkpoint: Path, options: dict[str, Any]) -> None:
    asked = ExportOptions(**{"model": checkpoint, "targets": ("onnx", "openvino"), "cache": False, **options})
    plain, quiet = ExportOptions(checkpoint, targets=asked.targets, cache=False), Progress(quiet=True)
    plan = ExportPlan(asked, make_plan(plain).artifacts)
    with Workspace(None) as workspace:
        prepared = prepare(network_stages(plain, quiet), plain, workspace, quiet)
        assert parallel.build_in_parallel(plan, Builder(prepared, workspace, asked, quiet)) == {}


def test_what_is_cached_needs_no_process(checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ULSAM_DEPLOY_CACHE", str(tmp_path / "cache"))
    options = ExportOptions(checkpoint, targets=("onnx", "openvino"), output=tmp_path / "m.bundle")
    for expected in (1, 0):
        progress = Progress(quiet=True)
        pipeline.export(options, progress)
        assert [stage.name for stage in progress.stages].count("targets") == expected
