"""``ulsam-deploy report``: bundles and result files on one page, and a word for what is neither."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from ulsam_deploy.cli import main

from ..report.reading import Page
from ..report.results import result
from .conftest import Run


def test_one_bundle(folder: Path, run: Run, tmp_path: Path) -> None:
    out = run("report", folder / "net.bundle", "-o", tmp_path / "r.html")
    assert "net: pass;" in out
    assert f"Made:   {tmp_path}/r.html" in out
    assert "Side by side" not in Page((tmp_path / "r.html").read_text()).text


def test_bundles_archives_and_results_side_by_side(folder: Path, run: Run, tmp_path: Path) -> None:
    run("pack", folder / "net.bundle", "-o", tmp_path / "packed.zip")
    (tmp_path / "run.json").write_text(result().to_json())
    run("report", folder / "net.bundle", tmp_path / "packed.zip", tmp_path / "run.json", "-o", tmp_path / "r.html")
    read = Page((tmp_path / "r.html").read_text())
    for words in ("3 files side by side", "net", "packed", "Kitchen Pi", "different machines"):
        assert words in read.text
    headings = read.all("h2")
    assert [h["id"] for h in headings if h.get("class") == "file"] == ["s0", "s1", "s2"]


def test_two_files_of_one_name_are_told_apart(folder: Path, run: Run, tmp_path: Path) -> None:
    shutil.copytree(folder / "net.bundle", tmp_path / "net.bundle")
    run("report", folder / "net.bundle", tmp_path / "net.bundle", "-o", tmp_path / "r.html")
    text = Page((tmp_path / "r.html").read_text()).text
    assert f"{tmp_path}/net.bundle" in text
    assert f"{folder}/net.bundle" in text


def test_an_altered_bundle_is_refused_and_nothing_is_written(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = tmp_path / "bad.bundle"
    shutil.copytree(folder / "net.bundle", bad)
    (bad / "onnx" / "model.onnx").write_bytes(b"other")
    assert main(["report", str(bad), "-o", str(tmp_path / "r.html")]) == 6
    assert "model.onnx" in capsys.readouterr().err
    assert not (tmp_path / "r.html").exists()


@pytest.mark.parametrize(
    ("name", "content", "code"), [("x.txt", "text", 2), ("x.json", "{}", 6), ("none.bundle", None, 2)]
)
def test_what_is_neither_is_told_what_would_be(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, content: str | None, code: int
) -> None:
    if content is not None:
        (tmp_path / name).write_text(content)
    assert main(["report", str(tmp_path / name), "-o", str(tmp_path / "r.html")]) == code
    assert name in capsys.readouterr().err


def test_a_folder_that_is_not_there_is_said_before_any_work(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(folder / "net.bundle"), "-o", "/nowhere/r.html"]) == 2
    assert "does not exist" in capsys.readouterr().err
