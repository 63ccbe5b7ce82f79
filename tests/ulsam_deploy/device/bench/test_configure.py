"""``--configure-device``: changed within the block, and restored after an end, an error, Ctrl-C and a kill."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ulsam_deploy.device.bench.board import Board
from ulsam_deploy.device.bench.configure import configured
from ulsam_deploy.device.errors import UnavailableError

from .boards import MODE, ORIN_JP6, PI5, POLICY0, UNREADABLE, X86, Fixture

GOVERNOR = f"{POLICY0}/scaling_governor"
HOLD = """
import sys, time
from pathlib import Path
from ulsam_deploy.device.bench.board import Board
from ulsam_deploy.device.bench.configure import configured

with configured(Board(Path(sys.argv[1]))) as changed:
    print(*changed, flush=True)
    time.sleep(60)
"""


def until(root: Path, word: str, seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while (root / GOVERNOR).read_text().strip() != word:
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_governors_are_raised_and_restored(tmp_path: Path) -> None:
    board = Fixture("", PI5).board(tmp_path)
    with configured(board) as changed:
        assert (tmp_path / GOVERNOR).read_text() == "performance"
        assert changed == ("policy0: governor performance instead of ondemand",)
    assert (tmp_path / GOVERNOR).read_text() == "ondemand"


def test_an_error_within_restores_as_well(tmp_path: Path) -> None:
    board = Fixture("", PI5).board(tmp_path)
    with pytest.raises(RuntimeError, match="within"), configured(board):
        raise RuntimeError("within")
    assert (tmp_path / GOVERNOR).read_text() == "ondemand"


@pytest.mark.parametrize("word", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
def test_whatever_ends_it_the_device_is_restored(word: signal.Signals, tmp_path: Path) -> None:
    """The signal goes to the whole group, as Ctrl-C in a terminal does."""
    Fixture("", PI5).board(tmp_path)
    held = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    assert held.stdout is not None
    assert b"performance instead of ondemand" in held.stdout.readline()
    assert (tmp_path / GOVERNOR).read_text() == "performance"
    os.killpg(held.pid, word)
    held.wait(20)
    held.stdout.close()
    until(tmp_path, "ondemand")


def test_what_is_performance_already_stays(tmp_path: Path) -> None:
    with configured(Fixture("", X86).board(tmp_path)) as changed:
        assert changed == ()


def test_what_can_not_be_changed_is_said_and_the_rest_is_restored(tmp_path: Path) -> None:
    second = POLICY0.replace("policy0", "policy4")
    files = {**PI5, f"{second}/scaling_governor": "ondemand\n", f"{second}/related_cpus": "4\n"}
    board = Fixture("", files).board(tmp_path)
    (tmp_path / second / "scaling_governor").unlink()
    (tmp_path / second / "scaling_governor").symlink_to("/dev/full")

    class Told(Board):
        def text(self, path: str | Path) -> str | None:
            return "ondemand" if "policy4/scaling_governor" in str(path) else super().text(path)

    with pytest.raises(UnavailableError, match="run as root"), configured(Told(board.root, board.command)):
        raise AssertionError("must not come here")
    assert (tmp_path / GOVERNOR).read_text() == "ondemand"


def test_a_kernel_that_takes_the_word_and_does_not_follow_it_is_told(tmp_path: Path) -> None:
    class Stubborn(Board):
        def text(self, path: str | Path) -> str | None:
            return "ondemand" if "scaling_governor" in str(path) else super().text(path)

    board = Fixture("", PI5).board(tmp_path)
    told = pytest.raises(UnavailableError, match="is 'ondemand' although 'performance' was written")
    with told, configured(Stubborn(board.root, board.command)):
        raise AssertionError("must not come here")
    assert (tmp_path / GOVERNOR).read_text() == "ondemand"


def test_a_governor_that_can_not_be_read_is_left_alone(tmp_path: Path) -> None:
    with configured(Fixture("", {**PI5, GOVERNOR: UNREADABLE}).board(tmp_path)) as changed:
        assert changed == ()


def test_a_jetson_stores_its_clocks_first_and_gets_them_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tools = tmp_path / "tools"
    tools.mkdir()
    log = tmp_path / "log"
    (tools / "jetson_clocks").write_text(f'#!/bin/sh\necho "$1" >> {log}\n[ "$1" = --store ] && echo x > "$2"\ntrue\n')
    (tools / "jetson_clocks").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}:{os.environ['PATH']}")
    root = tmp_path / "root"
    Fixture("", ORIN_JP6, MODE).board(root)
    with configured(Board(root)) as changed:
        assert log.read_text().split("\n") == ["--store", "", ""]
        assert "jetson_clocks" in changed[0]
        assert (root / GOVERNOR).read_text() == "performance"
    assert log.read_text().split("\n") == ["--store", "", "--restore", ""]
    assert (root / GOVERNOR).read_text() == "schedutil"


def test_a_jetson_without_the_tool_is_refused_and_untouched(tmp_path: Path) -> None:
    board = Fixture("", ORIN_JP6, MODE).board(tmp_path)
    with pytest.raises(UnavailableError, match="jetson_clocks --store' failed"), configured(board):
        raise AssertionError("must not come here")
    assert (tmp_path / GOVERNOR).read_text().strip() == "schedutil"
