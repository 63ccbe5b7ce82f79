"""``compare`` on files: table, JSON, what CI is handed, and the exit code."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
from junitparser import JUnitXml

from ulsam_deploy.cli import main

from ..device.bench.results import THROTTLED, measured, noisy, result


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """``old``, ``same``, ``slow`` and ``hot`` results and one budget."""
    for name, times, session, reasons in (
        ("old", noisy(12, 0), "0" * 16, ()),
        ("same", noisy(12, 1), "1" * 16, ()),
        ("slow", noisy(12, 2, 1.2), "2" * 16, ()),
        ("hot", noisy(12, 3), "3" * 16, (THROTTLED,)),
    ):
        (tmp_path / f"{name}.json").write_text(result(measured(times, *reasons), session=session).to_json())
    (tmp_path / "budgets.toml").write_text("[[budget]]\ntarget = 'onnx'\nmax_size_mb = 2\nmax_regression_percent = 5\n")
    return tmp_path


def compare(files: Path, current: str, *words: str) -> int:
    return main(["compare", str(files / "old.json"), str(files / f"{current}.json"), *words])


@pytest.mark.parametrize(("current", "code"), [("same", 0), ("slow", 1), ("hot", 5)])
def test_the_exit_code_is_the_verdict(files: Path, current: str, code: int, capsys: pytest.CaptureFixture[str]) -> None:
    budget = ("--budget", str(files / "budgets.toml"))
    assert compare(files, current, *budget) == code
    out = capsys.readouterr().out
    assert "limits hold" in out
    assert compare(files, current, *budget, "--json") == code
    found = json.loads(capsys.readouterr().out)
    assert (found["schema"], found["exit_code"]) == ("ulsam-deploy.compare/2", code)
    limits = {each["limit"].split(",")[0]: each["verdict"] for each in found["findings"]}
    assert limits["size"] == "pass"
    assert limits["time"] == {0: "pass", 1: "fail", 5: "inconclusive"}[code]
    assert compare(files, current) == code, "without a file: at most 5 % longer"


def test_ci_is_handed_what_failed(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert compare(files, "slow", "--junit", str(files / "j.xml"), "--markdown", str(files / "m.md")) == 1
    (suite,) = JUnitXml.fromfile(str(files / "j.xml"))
    assert suite.tests > 10
    assert suite.failures == 1
    assert "times as long" in (files / "m.md").read_text()
    assert compare(files, "hot", "--junit", str(files / "j.xml")) == 5
    (suite,) = JUnitXml.fromfile(str(files / "j.xml"))
    assert suite.errors == 1


@pytest.mark.parametrize(
    ("text", "code", "words"),
    [
        (None, 2, "can't be read: No such file"),
        ("{}", 6, "the key"),
        ("not json", 6, "isn't valid JSON"),
    ],
)
def test_a_file_that_is_no_result(
    files: Path, text: str | None, code: int, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = files / "same.json"
    path.unlink()
    if text is not None:
        path.write_text(text)
    assert compare(files, "same") == code
    assert words in capsys.readouterr().err


def test_budgets_about_nothing_that_was_measured_are_an_error(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (files / "budgets.toml").write_text("[[budget]]\ndevice = '*Orin*'\nmax_size_mb = 2\n")
    assert compare(files, "same", "--budget", str(files / "budgets.toml")) == 2
    assert "no budget is about anything that was measured: onnx fp32" in capsys.readouterr().err


def test_a_result_from_anywhere_can_not_write_to_the_terminal(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    evil = measured(noisy(12, 1), dataclasses.replace(THROTTLED, text="\x1b]0;gone\x07"), target="\x1b[2Jonnx")
    (files / "evil.json").write_text(result(evil, session="9" * 16).to_json())
    (files / "budgets.toml").write_text("[[budget]]\nmax_p90_ms = 0.1\n")
    assert compare(files, "evil", "--budget", str(files / "budgets.toml")) == 1
    out = capsys.readouterr().out
    assert r"\x1b[2Jonnx" in out
    assert "\x1b" not in out
    assert "\x07" not in out
