"""A job on a board through a real sshd: what comes back, what is left there, and every way in which it goes wrong."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ulsam_deploy.boards.remote import Finished, Link, Order, StoppedError, board, check_host, run_job
from ulsam_deploy.boards.remote import link as module
from ulsam_deploy.device.errors import Exit, RefusedError, UlsamError, UnavailableError, UsageError

WORK = """
import json, os, sys, time
from pathlib import Path

print("began", file=sys.stderr, flush=True)
with open(sys.argv[1], "a") as log:
    log.write(f"{os.getpid()}\\n")
time.sleep(float(sys.argv[2]))
print(json.dumps(sys.argv[3:]))
Path("result.json").write_text(Path("data", "in.txt").read_text() + os.getcwd())
print("\\x1b[31mended", file=sys.stderr)
sys.exit(5)
"""


@pytest.fixture
def order(tmp_path: Path) -> Callable[..., Order]:
    """``order(lasts, *words)``: a job that takes so long and writes its process's number to ``ran``."""
    folder = tmp_path / "sent"
    (folder / "data").mkdir(parents=True)
    (folder / "work.py").write_text(WORK)
    (tmp_path / "elsewhere.txt").write_text("sent along ")
    (folder / "data" / "in.txt").symlink_to(tmp_path / "elsewhere.txt")

    def make(lasts: float, *words: str, **more: Any) -> Order:
        return Order(folder, ("work.py", str(tmp_path / "ran"), str(lasts), *words), ("result.json", "none"), **more)

    return make


def link(board: Any, **more: Any) -> Link:
    return Link(board.name, board.config, **more)


def changed_python(path: Path, change: str) -> None:
    """A Python that greets, and in which something is not as it is here."""
    code = f"import sys; {change}; program = sys.argv[2]; del sys.argv[1:3]; exec(program)"
    path.write_text(f'#!/bin/sh\necho Welcome\nexec python3 -c "{code}" "$@"\n')
    path.chmod(0o755)


def quiet(_: str) -> None:
    pass


class Running(threading.Thread):
    """A job in the background: ``result`` or ``error`` once it is joined."""

    def __init__(self, place: Link, order: Order) -> None:
        super().__init__()
        self.place, self.order = place, order
        self.result: Finished | None = None
        self.error: UlsamError | None = None
        self.told = ""
        self.start()
        until(lambda: "began" in self.told or not self.is_alive())

    def run(self) -> None:
        try:
            self.result = run_job(self.place, self.order, self.hear)
        except UlsamError as error:
            self.error = error

    def hear(self, text: str) -> None:
        self.told += text


def until(true: Callable[[], object], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"


def test_words_files_and_exit_code_come_back_and_nothing_is_left(kitchen: Any, order: Any) -> None:
    odd = ["two words", "a'b\"c", "$(touch /tmp/x)", "*", "", "-n", "ü"]
    told: list[str] = []
    done = run_job(link(kitchen), order(0, *odd), told.append)
    assert json.loads(done.out) == odd
    assert done.files["result.json"].startswith("sent along " + str(kitchen.tmp))
    assert (done.exit_code, list(done.files)) == (5, ["result.json"])
    assert "".join(told) == "began\n\\x1b[31mended\n", "what a board prints must not reach a terminal as it is"
    assert kitchen.left() == []


def test_a_jump_host_of_the_users_configuration_is_used(boards: Any, order: Any) -> None:
    near, far = boards("near"), boards("far")
    text = far.config.read_text().replace("User ", "ProxyJump near\n    User ")
    near.config.write_text(near.config.read_text() + text)
    assert run_job(Link("far", near.config), order(0), quiet).exit_code == 5
    assert "Accepted publickey" in (near.root / "sshd.log").read_text()
    assert (near.left(), far.left()) == ([], [])


@pytest.mark.parametrize("known", ["", "another"])
def test_a_host_key_that_is_not_known_is_refused_whatever_the_configuration_says(
    kitchen: Any, order: Any, known: str
) -> None:
    lines = f"kitchen {(kitchen.root / 'key.pub').read_text()}" if known else ""
    (kitchen.root / "known_hosts").write_text(lines)
    assert "StrictHostKeyChecking no" in kitchen.config.read_text()
    with pytest.raises(RefusedError, match="another host key" if known else "isn't known") as error:
        run_job(link(kitchen), order(0), quiet)
    assert error.value.exit_code == Exit.REFUSED
    assert (kitchen.root / "known_hosts").read_text() == lines


@pytest.mark.parametrize("host", ["-oProxyCommand=touch /tmp/x", "", "a b", "pi@kitchen:22", "ssh://pi@kitchen", "@a"])
def test_what_is_no_host_never_reaches_ssh(host: str) -> None:
    with pytest.raises(UsageError, match="is no host"):
        check_host(host)


def test_hosts_have_plain_names() -> None:
    assert [check_host(name) for name in ("pi@kitchen", "10.0.0.7", "jetson-1.local")]


def test_an_unreachable_host_is_unavailable(kitchen: Any, order: Any) -> None:
    kitchen.config.write_text(kitchen.config.read_text().replace(f"Port {kitchen.port}", "Port 1"))
    with pytest.raises(UnavailableError, match=r"kitchen can't be reached: .*Connection refused"):
        run_job(link(kitchen), order(0), quiet)


def test_a_host_without_our_key_does_not_let_us_in(kitchen: Any, order: Any) -> None:
    (kitchen.root / "authorized_keys").write_text("")
    with pytest.raises(UnavailableError, match="does not let you in") as error:
        run_job(link(kitchen), order(0), quiet)
    assert "ssh-copy-id" in error.value.todo


def test_no_python_and_an_old_one_are_said(kitchen: Any, order: Any, tmp_path: Path) -> None:
    with pytest.raises(UnavailableError, match="has no 'python9'"):
        run_job(link(kitchen, python="python9"), order(0), quiet)
    old = tmp_path / "old"
    changed_python(old, "sys.version_info = (3, 8)")
    with pytest.raises(UnavailableError, match="has Python 3") as error:
        run_job(link(kitchen, python=str(old)), order(0), quiet)
    assert "3.10 or newer" in error.value.expected
    assert kitchen.left() == []


def test_a_full_disk_is_said_before_anything_is_sent(kitchen: Any, order: Any) -> None:
    full = kitchen.root / "full"
    changed_python(full, "import shutil; shutil.disk_usage = lambda _: type('', (), {'free': 9 << 20})")
    with pytest.raises(UnavailableError, match=r"has 9 MB free"):
        run_job(link(kitchen, python=str(full)), order(0), quiet)
    assert kitchen.left() == []


def test_a_board_in_use_says_by_whom(kitchen: Any, order: Any) -> None:
    first = Running(link(kitchen), order(60))
    with pytest.raises(UnavailableError, match=r"kitchen is in use by \S+@\S* since \d{4}-"):
        run_job(link(kitchen), order(0), quiet)
    assert first.is_alive(), "who is told to wait must not clean up after somebody else"
    first.place.stop.set()
    first.join(30)
    assert kitchen.left() == []


def test_what_a_killed_run_left_does_not_stand_in_the_way(kitchen: Any, order: Any) -> None:
    (kitchen.tmp / "ulsam-deploy.lock").write_text("somebody@else since 2024-01-01")
    (kitchen.tmp / f"ulsam-deploy-{os.getuid()}-dead" / "work").mkdir(parents=True)
    (kitchen.tmp / "others").mkdir()
    assert run_job(link(kitchen), order(0), quiet).exit_code == 5
    assert kitchen.left() == ["others"]


def test_a_lost_link_ends_the_job_and_the_board_cleans_itself(kitchen: Any, order: Any, tmp_path: Path) -> None:
    running = Running(link(kitchen), order(60))
    kitchen.cut()
    running.join(60)
    assert "the link to kitchen is lost" in str(running.error)
    until(lambda: not kitchen.left())
    assert not alive(int((tmp_path / "ran").read_text()))
    assert run_job(link(kitchen), order(0), quiet).exit_code == 5


def test_a_silent_host_is_taken_for_lost(kitchen: Any, order: Any, tmp_path: Path, monkeypatch: Any) -> None:
    """A laptop that sleeps: the connection is there, and nobody says anything."""
    monkeypatch.setattr(module, "ALIVE_SECONDS", 1000)
    impatient = tmp_path / "impatient.py"
    impatient.write_text(Path(board.__file__).read_text().replace("SILENCE_SECONDS = 60.0", "SILENCE_SECONDS = 0.5"))
    monkeypatch.setattr(board, "__file__", str(impatient))
    with pytest.raises(UnavailableError, match="heard nothing from here"):
        run_job(link(kitchen), order(60), quiet)
    assert kitchen.left() == []
    assert not alive(int((tmp_path / "ran").read_text()))


def test_stopping_ends_the_job_and_cleans_the_board(kitchen: Any, order: Any, tmp_path: Path) -> None:
    running = Running(link(kitchen), order(60))
    running.place.stop.set()
    running.join(30)
    assert isinstance(running.error, StoppedError)
    assert kitchen.left() == []
    assert not alive(int((tmp_path / "ran").read_text()))


def test_a_job_that_takes_too_long_is_stopped(kitchen: Any, order: Any, tmp_path: Path) -> None:
    with pytest.raises(UnavailableError, match="was not done after 1 s"):
        run_job(link(kitchen), order(60, seconds=1.0), quiet)
    assert kitchen.left() == []
    assert not alive(int((tmp_path / "ran").read_text()))
