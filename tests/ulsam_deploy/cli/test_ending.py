"""How a run ends that did not go well: words, never a traceback; what nobody foresaw leaves its traceback in a file."""

from __future__ import annotations

import errno
import io
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from ulsam_deploy.cli import main
from ulsam_deploy.device.commands import on_device
from ulsam_deploy.device.commands.answer import Answer, ErrorDocument
from ulsam_deploy.device.errors import Exit, UsageError

ROOT = Path(__file__).parents[3]
Plant = Callable[[BaseException], None]


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder for temporary files."""
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    return tmp_path / "temporary"


@pytest.fixture
def plant(monkeypatch: pytest.MonkeyPatch) -> Plant:
    """Let commands raise an error as soon as they run."""

    def planted(error: BaseException) -> None:
        def run(_: object) -> Exit:
            raise error

        for command in ("cache", "doctor", "compare"):
            monkeypatch.setattr(f"ulsam_deploy.cli.{command}.run", run)
        monkeypatch.setattr("ulsam_deploy.device.commands.doctor.run", run)

    return planted


@pytest.mark.parametrize(
    "error", [KeyError("x"), RuntimeError(), AssertionError("two\nlines"), FileNotFoundError(2, "no")]
)
@pytest.mark.parametrize("start", [main, on_device.main])
def test_what_nobody_foresaw_is_one_sentence_and_a_file(
    start: Callable[..., int], error: Exception, places: Path, plant: Plant, capsys: pytest.CaptureFixture[str]
) -> None:
    plant(error)
    assert start(["doctor", "--json"]) == 70
    said = capsys.readouterr()
    assert json.loads(said.out)["exit_code"] == 70
    assert said.err.count("\n") == 1
    assert type(error).__name__ in said.err
    (kept,) = places.iterdir()
    assert said.err.rstrip().endswith(str(kept))
    assert kept.stat().st_mode & 0o777 == 0o600
    text = kept.read_text()
    assert "words: doctor --json" in text
    assert "Traceback (most recent call last)" in text
    assert "in planted" in text or "raise error" in text


def test_a_traceback_that_cannot_be_kept_is_said_and_nothing_is_half_written(
    places: Path, plant: Plant, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Full(io.BytesIO):
        def write(self, _: object) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

    plant(KeyError("x"))
    monkeypatch.setattr(os, "fdopen", lambda *_: Full())
    assert main(["doctor"]) == 70
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "could not be kept: No space left on device" in said
    assert list(places.iterdir()) == []


@pytest.mark.parametrize(
    ("error", "code", "told"),
    [
        (MemoryError(), 3, "not enough memory"),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"), 3, "not enough memory"),
        (OSError(errno.ENOSPC, "No space left on device", "/there/x"), 3, "'/there/x' can't be read or written"),
        (PermissionError(errno.EACCES, "Permission denied", "/there/x"), 3, "Permission denied"),
        (FileNotFoundError(errno.ENOENT, "No such file", "old.json"), 2, "'old.json' can't be used: No such file"),
        (IsADirectoryError(errno.EISDIR, "Is a directory", "old.json/in/it"), 2, "Is a directory"),
        (UsageError("this", expected="that"), 2, "error: this\n  expected: that"),
        (KeyboardInterrupt(), 130, "interrupted"),
    ],
)
def test_what_the_machine_or_the_user_says_has_words(
    error: BaseException, code: int, told: str, places: Path, plant: Plant, capsys: pytest.CaptureFixture[str]
) -> None:
    plant(error)
    assert main(["compare", "old.json", "new.json"]) == code
    assert told in capsys.readouterr().err
    assert list(places.iterdir()) == []


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252", "utf-8"])
def test_a_name_that_the_terminal_lacks_is_shown_escaped(encoding: str, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(shown, encoding=encoding))
    answer = Answer(ErrorDocument("", 2, "", "", ""), ["n\u00eb\u2603t \udcff"])
    monkeypatch.setattr("ulsam_deploy.cli.cache.run", lambda _: answer)
    assert main(["cache"]) == 0
    sys.stdout.flush()
    written = shown.getvalue().decode(encoding)
    assert written.startswith("n")
    assert written.endswith("t \\udcff\n")


def test_what_somebody_chose_for_such_names_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding="ascii", errors="replace"))
    monkeypatch.setattr("ulsam_deploy.cli.cache.run", lambda _: Answer(ErrorDocument("", 2, "", "", ""), []))
    assert main(["cache"]) == 0
    assert sys.stdout.errors == "replace"


@pytest.mark.parametrize("page", ["README.md", "docs/command-line.md"])
def test_every_exit_code_is_documented_and_a_defect_is_no_failed_check(page: str) -> None:
    rows = dict(re.findall(r"^\| (\d+) \| (.+) \|$", (ROOT / page).read_text(), re.MULTILINE))
    assert {int(code) for code in rows} | {130} == {int(code) for code in Exit} | {130}
    assert "defect" in rows["70"]
    assert "check" not in rows["70"]


@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP"])
def test_an_end_from_outside_puts_everything_away_as_ctrl_c_does(name: str) -> None:
    """In a process of its own: libraries that other tests load may have put handlers of theirs in place."""
    code = """
import os, signal, sys, time
from ulsam_deploy.cli import lint, main

def terminated(arguments):
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(10)

lint.run = terminated
code = main(["lint", "m.pt"])
assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
sys.exit(code)
""".replace("SIGTERM", name)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == Exit.INTERRUPTED, done.stderr
    assert "interrupted: nothing was left half-written" in done.stderr
