"""``report FOLDER``: the trend of every figure, with the commits, and what the last build lost."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from ulsam_deploy.cli import main
from ulsam_deploy.device.benchmark import _COMMITS

from ..device.bench.results import measured, noisy, result
from ..report.reading import Page


def history(folder: Path, *scales: float) -> Path:
    folder.mkdir()
    for number, scale in enumerate(scales):
        one = result(measured(noisy(12, number, scale)), session=f"{number:016x}")
        named = dataclasses.replace(one, commit=f"{number}abcdef0123456789")
        (folder / f"2026-11-{number + 1:02}.json").write_text(named.to_json())
    return folder


def test_every_figure_has_a_plot_and_each_build_its_commit(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, page = history(tmp_path / "history", *[1.0] * 12, 1.2), tmp_path / "page.html"
    assert main(["report", str(folder), "-o", str(page)]) == 0
    assert (
        "13 builds. The last one, 12abcdef, against 11abcdef: 11 of 12 limits hold, 1 is broken."
        in capsys.readouterr().out
    )
    text = page.read_text()
    Page(text)
    for name in ("time, ms", "memory, MB", "error, noise floors", "retention"):
        assert f'aria-label="{name} over 0abcdef0' in text
    assert text.count("0abcdef0") >= 10
    assert "times as long" in text, "the sentence about what got worse"


@pytest.mark.parametrize("scales", [(), (1.0,)])
def test_fewer_than_two_builds_are_no_history(
    scales: tuple[float, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["report", str(history(tmp_path / "h", *scales)), "-o", str(tmp_path / "page.html")]) == 2
    assert f"has {len(scales)} builds" in capsys.readouterr().err


def test_bench_looks_for_the_commit_where_the_services_tell_it() -> None:
    assert _COMMITS == ("GITHUB_SHA", "CI_COMMIT_SHA", "GIT_COMMIT")
