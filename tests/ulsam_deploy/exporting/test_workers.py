"""Local workers: a dead one takes its own task along, which is done again; what always kills is given up."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from ulsam_deploy.device.errors import UsageError
from ulsam_deploy.exporting import workers
from ulsam_deploy.exporting.workers import LIVES, LocalExecutor, LostError, local, local_workers


def square(x: int) -> int:
    return x * x


def fail(text: str) -> None:
    raise UsageError(text, expected="something else")


def die(mark: Path, times: int) -> int:
    """Kill the process the first ``times`` times."""
    with mark.open("a") as file:
        file.write("x")
    if len(mark.read_text()) <= times:
        os.kill(os.getpid(), signal.SIGKILL)
    return os.getpid()


class Unreadable:
    """Leaves here, and cannot be made again there."""

    def __reduce__(self) -> tuple[Any, ...]:
        return import_module, ("no_such_module",)


def unspeakable() -> object:
    return lambda: None


def sleep() -> None:
    time.sleep(60)


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers import these functions by their module's name."""
    monkeypatch.syspath_prepend(Path(__file__).parents[3])


@pytest.fixture
def pool() -> Iterator[LocalExecutor]:
    with LocalExecutor(2) as made:
        yield made


def test_results_and_errors_come_back(pool: LocalExecutor) -> None:
    assert list(pool.map(square, range(5))) == [0, 1, 4, 9, 16]
    with pytest.raises(UsageError, match="so not") as error:
        pool.submit(fail, "so not").result()
    assert error.value.expected == "something else"
    assert "in fail" in "".join(traceback.format_exception(error.value)), "where it was raised there is lost"
    with pytest.raises(RuntimeError, match="cannot be sent"):
        pool.submit(unspeakable).result()
    with pytest.raises(RuntimeError, match="cannot be read here: No module named 'no_such_module'"):
        pool.submit(id, Unreadable()).result()
    assert pool.submit(square, 3).result() == 9


def test_a_killed_worker_is_replaced_and_its_task_done_again(pool: LocalExecutor, tmp_path: Path) -> None:
    dying = pool.submit(die, tmp_path / "twice", 2)
    others = [pool.submit(square, x) for x in range(20)]
    assert [other.result() for other in others] == [x * x for x in range(20)]
    assert dying.result() != os.getpid()
    assert (tmp_path / "twice").read_text() == "xxx"


def test_a_task_that_always_kills_is_given_up(pool: LocalExecutor, tmp_path: Path) -> None:
    with pytest.raises(LostError, match=f"{LIVES} workers died with this task, the last one by signal 9"):
        pool.submit(die, tmp_path / "always", 99).result()
    assert pool.submit(square, 4).result() == 16


@pytest.mark.parametrize("pause", [0.0, 0.02, 0.3])
def test_an_interrupted_run_ends_at_once(pause: float) -> None:
    """Also while a second process is being started, and no thread goes on with the next task when its process dies."""
    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt), local(2) as pool:  # noqa: PT012
        tasks = [pool.submit(sleep) for _ in range(4)]
        while not any(task.running() for task in tasks):
            time.sleep(0.001)
        time.sleep(pause)
        raise KeyboardInterrupt
    assert all(task.cancelled() for task in tasks[2:])
    for task in tasks[:2]:
        assert task.cancelled() or isinstance(task.exception(timeout=20), LostError)
    assert time.monotonic() - started < 30


def test_a_script_of_the_caller_runs_once_and_owns_stdout(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "from ulsam_deploy.exporting.workers import local\n"
        "print('begun')\n"
        "with local(2) as pool:\n"
        "    print(list(pool.map(abs, [-1, 2])), pool.submit(print, 'from there').result())\n"
    )
    done = subprocess.run([sys.executable, script], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "begun\n[1, 2] None\n", "from there\n")


def test_no_more_workers_than_memory_allows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "_free", lambda: 10 << 30)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    assert local_workers(None, 3 << 30) == 3
    assert local_workers(None, 1 << 30) == 8
    assert local_workers(None, 64 << 30) == 1
    assert local_workers(5, 3 << 30) == 5
