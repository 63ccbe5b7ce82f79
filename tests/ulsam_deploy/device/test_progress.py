"""A stage that takes long says so while it runs: in its place on a terminal, line by line elsewhere, or not at all."""

from __future__ import annotations

import io
import re
import time

import pytest

from ulsam_deploy.device import progress
from ulsam_deploy.device.progress import Progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "MOVES", 0.02)
    monkeypatch.setattr(progress, "BEATS", 0.02)


def run(told: Progress) -> None:
    with told.stage("convert") as notes:
        time.sleep(0.2)
        told.say("half way")
        notes.append("done")


def test_elsewhere_it_is_a_line_now_and_then() -> None:
    run(Progress(stream := io.StringIO()))
    lines = stream.getvalue().splitlines()
    assert lines[0] == "  convert ... 0 s"
    assert "half way" in lines
    assert re.fullmatch(r"  convert +0\.\d s   done", lines[-1])
    assert "\r" not in stream.getvalue()


@pytest.mark.parametrize("dumb", [True, False])
def test_on_a_terminal_it_is_in_its_place(dumb: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb" if dumb else "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    run(Progress(stream := Terminal()))
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", stream.getvalue())
    assert "convert ... 0 s" in plain
    assert not any(line.endswith(" 0 s") for line in plain.split("\n")[:-1] if "\r" not in line)
    assert re.fullmatch(r"\s*convert +0\.\d s   done", plain.rstrip("\n").split("\n")[-1].split("\r")[-1])


def test_a_stage_inside_another_one_leaves_the_word_to_it() -> None:
    told = Progress(stream := io.StringIO())
    with told.stage("outer"), told.stage("inner"):
        time.sleep(0.1)
    with told.waiting("after"):
        time.sleep(0.1)
    assert "outer ... 0 s" in stream.getvalue()
    assert "inner ..." not in stream.getvalue()
    assert "after ... 0 s" in stream.getvalue()


@pytest.mark.parametrize(("words", "lines"), [({"quiet": True}, 0), ({"beat": False}, 2)])
def test_it_can_be_off(words: dict[str, bool], lines: int) -> None:
    run(Progress(stream := io.StringIO(), **words))
    assert len(stream.getvalue().splitlines()) == lines


def test_it_stops_with_an_error() -> None:
    told = Progress(stream := io.StringIO())
    with pytest.raises(ZeroDivisionError), told.stage("convert"):
        raise ZeroDivisionError
    said = stream.getvalue()
    time.sleep(0.1)
    assert stream.getvalue() == said
