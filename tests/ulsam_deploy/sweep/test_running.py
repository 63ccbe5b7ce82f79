"""Sweeps in this process: every cell once, whatever fails, resumed by content, with accuracy."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ulsam_deploy.cli import main
from ulsam_deploy.device.bundle import read_bundle
from ulsam_deploy.device.errors import Exit, ExportError
from ulsam_deploy.device.findings import Verdict
from ulsam_deploy.device.progress import Progress
from ulsam_deploy.sweep import plan, results
from ulsam_deploy.sweep.results import Row
from ulsam_deploy.sweep.running import Run
from ulsam_deploy.sweep.store import Store

Tiny = Callable[[int], list[Path]]


def sweep(folder: Path, output: str = "", **keys: object) -> plan.Sweep:
    path = folder / "sweep.toml"
    path.write_text("".join(f"{key} = {json.dumps(value)}\n" for key, value in keys.items()))
    return plan.read(path, output)


def done(what: plan.Sweep, executor: Executor | None = None) -> tuple[list[Row], int]:
    run = Run(what, Progress(quiet=True))
    with executor or ThreadPoolExecutor(1) as pool:
        run.go(pool)
    return run.rows(), run.found


@pytest.fixture(autouse=True)
def engines() -> None:
    pytest.importorskip("onnxruntime")


def test_a_sweep_in_memory_with_a_failure_and_resumed(tiny: Tiny, tmp_path: Path) -> None:
    good, bad = tiny(2)
    bad.write_bytes(good.read_bytes()[:200])
    asked = {"checkpoints": ["tiny-*.onnx"], "targets": ["onnx"], "memory": 0.5}
    # The damaged one cannot even be hashed with its weights, so the plan says so before anything is done.
    with pytest.raises(ExportError, match="cannot be read"):
        sweep(tmp_path, **asked)
    bad.with_suffix(".pt").write_bytes(b"no checkpoint either")
    bad.unlink()
    url = f"memory://{tmp_path.name}"
    asked["checkpoints"] = ["tiny-*"]
    rows, found = done(sweep(tmp_path, url, **asked))
    assert found == 0
    assert [row.verdict for row in rows] == [Verdict.PASS, Verdict.FAIL]
    assert [row.attempts for row in rows] == [1, 1]
    assert results.exit_code(rows) is not Exit.OK
    assert "cannot be read" in rows[1].reasons[0] or "is not" in rows[1].reasons[0]
    again, found = done(sweep(tmp_path, url, **asked))
    assert found == 1  # the good one; what failed is tried again, for it may have had to do with the machine
    assert [row.attempts for row in again] == [1, 2]
    assert again[0].result == rows[0].result
    bundle = Store(url).read(rows[0].bundle)
    (tmp_path / "b.zip").write_bytes(bundle or b"")
    assert [a.target for a in read_bundle(tmp_path / "b.zip").manifest.artifacts] == ["onnx"]


def test_accuracy_is_that_of_verify(tiny: Tiny, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tiny(1)
    rng = np.random.default_rng(0)
    images, labels = rng.normal(size=(30, 3, 8, 8)).astype(np.float32), rng.integers(0, 4, 30)
    np.savez(tmp_path / "validation.npz", images=images, labels=labels)
    asked = {"checkpoints": ["*.onnx"], "targets": ["onnx"], "labelled": "validation.npz", "batch": 1}
    what = sweep(tmp_path, **asked)
    ((row,), _) = done(what)
    (tmp_path / "b.zip").write_bytes(Store(what.output).read(row.bundle) or b"")
    assert main(["verify", str(tmp_path / "b.zip"), "--data", str(tmp_path / "validation.npz"), "--json"]) == 0
    (told,) = json.loads(capsys.readouterr().out)["artifacts"]
    assert row.result.run.accuracy
    assert vars(row.result.run.accuracy.top1) == told["accuracy"]["top1"]
    assert row.result.run.accuracy.count == 30
    assert "%" in row.cells()[results.COLUMNS.index("top-1")]
    ((again,), found) = done(what)
    assert (found, again.result.run.accuracy, again.attempts) == (1, row.result.run.accuracy, 1)

    # Other data is another cell; data that does not fit is told, and costs the cell its verdict.
    np.savez(tmp_path / "validation.npz", images=images[:, :2], labels=labels)
    ((row,), found) = done(sweep(tmp_path, **asked))
    assert found == 0
    assert "holds float32 of shape 2x8x8 a sample" in row.reasons[0]
    assert (row.verdict, row.code) == (Verdict.FAIL, Exit.EXPORT_FAILED)


def test_labelled_data_that_changed_since_the_plan_is_refused(tiny: Tiny, tmp_path: Path) -> None:
    tiny(1)
    np.savez(tmp_path / "v.npz", images=np.zeros((2, 3, 8, 8), np.float32), labels=np.array([0, 1]))
    what = sweep(tmp_path, checkpoints=["*.onnx"], targets=["onnx"], labelled="v.npz")
    (tmp_path / "v.npz").write_bytes(b"another")
    ((row,), _) = done(what)
    assert row.result.code is Exit.REFUSED


def test_the_command_leaves_a_report(tiny: Tiny, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tiny(1)
    toml = tmp_path / "many.toml"
    toml.write_text('checkpoints = ["*.onnx"]\ntargets = ["onnx"]\ninputs = ["", "3x9x9"]\nmemory = 0.5\n')
    assert main(["sweep", str(toml), "--dry-run"]) == 0
    assert "2 cells, 2 to be done" in capsys.readouterr().out
    junit = tmp_path / "junit.xml"
    code = main(["sweep", str(toml), "--workers", "1", "--json", "--junit", str(junit)])
    said = capsys.readouterr()
    document = json.loads(said.out)
    assert code == document["exit_code"] == Exit.EXPORT_FAILED
    assert [cell["found"]["verdict"] for cell in document["cells"]] == ["pass", "unverified"]
    assert "takes 3x8x8" in document["cells"][1]["found"]["reasons"][0]
    assert "[2/2]" in said.err
    folder = tmp_path / "many.sweep"
    assert json.loads((folder / "report.json").read_text())["cells"] == document["cells"]
    assert "tiny-00" in (folder / "report.md").read_text()
    assert junit.read_text().count("<testcase") == 2
    assert main(["sweep", str(toml), "--dry-run"]) == 0
    assert "2 cells, 1 to be done" in capsys.readouterr().out


class _Gone(Executor):
    """An executor whose cluster is lost while it works."""

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        future.cancel()
        future.set_running_or_notify_cancel()
        return future


def test_a_lost_cluster_leaves_no_cell_without_a_word(tiny: Tiny, tmp_path: Path) -> None:
    tiny(2)
    rows, _ = done(sweep(tmp_path, checkpoints=["*.onnx"], targets=["onnx"]), _Gone())
    assert [row.verdict for row in rows] == [Verdict.FAIL] * 2
    assert all("CancelledError" in row.reasons[0] for row in rows)


def test_another_version_on_a_worker_is_refused(tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ulsam_deploy.sweep import work

    tiny(1)
    what = sweep(tmp_path, checkpoints=["*.onnx"], targets=["onnx"])
    monkeypatch.setattr(work, "_own_code", lambda: "another")
    ((row,), _) = done(what)
    assert row.result.code is Exit.UNAVAILABLE
    assert "another version" in row.reasons[0]


def test_a_checkpoint_that_changed_since_the_plan_is_refused(tiny: Tiny, tmp_path: Path) -> None:
    first, second = tiny(2)
    what = sweep(tmp_path, checkpoints=["tiny-00.onnx"], targets=["onnx"])
    first.write_bytes(second.read_bytes())
    ((row,), _) = done(what)
    assert row.result.code is Exit.REFUSED


def test_what_nobody_foresaw_is_one_sentence_in_the_table_and_a_file(
    tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ulsam_deploy.sweep import work

    tiny(1)
    what = sweep(tmp_path, checkpoints=["*.onnx"], targets=["onnx"])
    monkeypatch.setattr(work, "_made", lambda *_: {}["planted"])
    ((row,), _) = done(what)
    assert row.result.code is Exit.DEFECT
    (reason,) = row.reasons
    assert "\n" not in reason
    kept = Path(reason.rpartition(" ")[2])
    assert "KeyError: 'planted'" in kept.read_text()
    assert kept.is_relative_to(what.output)


@pytest.mark.arm
@pytest.mark.slow
def test_a_cell_on_an_emulated_board(tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ULSAM_DEPLOY_CACHE")  # the board's software is kept there, and takes long to fetch
    for package in ("litert_torch", "ai_edge_litert"):
        pytest.importorskip(package)
    tiny(1)
    rows, _ = done(sweep(tmp_path, checkpoints=["*.onnx"], targets=["tflite"], devices=["", "rpi4"]))
    assert [row.verdict for row in rows] == [Verdict.PASS, Verdict.PASS]
    assert [row.result.found.level.label for row in rows] == ["executed", "emulated-on-device-cpu"]
    here, board = (row.result for row in rows)
    assert here.found.files == board.found.files
    assert board.run.p50 is None  # an emulator's time means nothing
