"""The simulation behind docs/scale.md: known queues come out as known, and dying workers lose no work."""

from __future__ import annotations

import json
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture
def scale() -> Iterator[Any]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "benchmarks"))
        yield import_module("scale")


def figures(scale: Any, seconds: float, cells: int = 3) -> Any:
    return scale.Figures((seconds,), (seconds,), 1 << 30, 1e6, 2e6, cells)


def test_without_a_queue_a_checkpoint_waits_for_its_own_cells_only(scale: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scale, "MEAN_LIFE", 1e12)
    found = scale.day(figures(scale, 1.0, cells=1), workers=500)
    assert (found.median, found.worst, found.lost) == (1.0, 1.0, 0)
    assert found.busy == pytest.approx(scale.CHECKPOINTS / (500 * 86400))


def test_a_worker_that_is_never_idle_does_all_the_work(scale: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scale, "MEAN_LIFE", 1e12)
    found = scale.day(figures(scale, 600.0), workers=4)  # twice as much as four workers do in a day
    assert found.busy > 0.99
    assert found.worst > 86400


def test_dying_workers_cost_time_and_no_work(scale: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scale, "MEAN_LIFE", 1e12)
    calm = scale.day(figures(scale, 60.0), workers=6)
    monkeypatch.setattr(scale, "MEAN_LIFE", 3600.0)
    rough = scale.day(figures(scale, 60.0), workers=6)
    assert calm.lost == 0 < rough.lost
    assert rough.busy > calm.busy  # what was lost was done again
    assert rough.median >= calm.median


def test_figures_are_read_from_a_report(scale: Any, tmp_path: Path) -> None:
    (tmp_path / "bundle.zip").write_bytes(bytes(500))
    cells = [
        {
            "found": {"sha256": name, "input": "", "precision": "fp32", "bytes": 100},
            "run": {"seconds": seconds, "peak": 7},
            "bundle": "bundle.zip",
        }
        for name, times in {"a": (9.0, 2.0, 1.0), "b": (8.0, 3.0, 2.0)}.items()
        for seconds in times
    ]
    (tmp_path / "report.json").write_text(json.dumps({"cells": cells}))
    found = scale.measured(tmp_path / "report.json")
    assert found == scale.Figures((9.0, 8.0), (1.0, 2.0, 2.0, 3.0), 7, 100, 500, 3)
    assert found.seconds == 8.5 + 2 * 2
    assert "| one bundle (one target) / one artifact in it | 0.001 / 0.000 MB |" in scale.tables(found)
