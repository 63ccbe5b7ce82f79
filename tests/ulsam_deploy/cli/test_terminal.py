"""What a person sees on a real terminal (a pty), and what a pipe gets: plain lines, no escapes, no colours."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest

COLOUR = re.compile(r"\x1b\[[0-9;]*m")


def on_a_terminal(*words: object, **environment: str) -> tuple[int, str]:
    """Exit code, and everything that the terminal was sent."""
    ours, theirs = pty.openpty()
    whole = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "FORCE_COLOR", "COLORTERM")}
    process = subprocess.Popen(
        [sys.executable, "-m", "ulsam_deploy", *map(str, words)],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env={**whole, "TERM": "xterm-256color", "COLUMNS": "140", **environment},
    )
    os.close(theirs)
    said = b""
    while True:
        try:
            part = os.read(ours, 65536)
        except OSError:  # Linux: the other end is closed
            break
        if not part:
            break
        said += part
    os.close(ours)
    return process.wait(), said.decode()


def test_a_terminal_gets_a_drawn_table_in_colours(folder: Path) -> None:
    code, said = on_a_terminal("verify", folder / "net.bundle", "--target", "onnx")
    assert code == 0
    assert "╭" in said
    assert COLOUR.search(said)
    assert said.rstrip().splitlines()[-1].startswith("Next:")


def test_no_color_leaves_the_colours_out_and_the_table_in(folder: Path) -> None:
    _, said = on_a_terminal("verify", folder / "net.bundle", "--target", "onnx", NO_COLOR="1")
    assert "╭" in said
    assert not re.search(r"\x1b\[[0-9;]*3[0-9]m", said)


def test_a_dumb_terminal_gets_plain_text(folder: Path) -> None:
    _, said = on_a_terminal("verify", folder / "net.bundle", "--target", "onnx", TERM="dumb")
    assert "\x1b" not in said
    assert "╭" not in said


def test_progress_moves_on_a_terminal_and_ends_in_whole_lines(folder: Path, tmp_path: Path) -> None:
    code, said = on_a_terminal("export", folder / "net.pt", "--target", "onnx", "-o", tmp_path / "t.bundle")
    assert code == 0
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", said)
    assert re.search(r"^\s*onnx +\d+\.\d s   executed, pass", plain, re.MULTILINE)
    ends = plain.rstrip().splitlines()[-3:]
    assert [line.split(":")[0] for line in ends] == ["Made", "Proven", "Next"]


@pytest.mark.parametrize("words", [("verify", "{bundle}"), ("inspect", "{bundle}"), ("export", "{net}", "--dry-run")])
def test_a_pipe_gets_plain_lines(folder: Path, words: tuple[str, ...]) -> None:
    filled = [word.format(bundle=folder / "net.bundle", net=folder / "net.pt") for word in words]
    done = subprocess.run(
        [sys.executable, "-m", "ulsam_deploy", *filled],
        capture_output=True,
        text=True,
        env={**os.environ, "TERM": "xterm"},
    )
    assert "\x1b" not in done.stdout + done.stderr
    assert "\r" not in done.stdout + done.stderr
    assert "╭" not in done.stdout
    assert done.stdout.isascii()
