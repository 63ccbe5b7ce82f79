"""Local workers: a dead one takes its own task along, which is done again; what always kills is given up."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from ulsam_deploy.device import share
from ulsam_deploy.device.errors import DefectError, Exit, ExportError, UsageError
from ulsam_deploy.device.files import scratch
from ulsam_deploy.exporting.workers import LIVES, LocalPool, LostError, local, local_workers


@dataclass(frozen=True)
class Number:
    x: int


@dataclass(frozen=True)
class Text:
    text: str


@dataclass(frozen=True)
class Dying:
    """Kill the process the first ``times`` times."""

    mark: Path
    times: int


@dataclass(frozen=True)
class Anything:
    value: Any


def square(number: Number) -> Number:
    return Number(number.x**2)


def fail(text: Text) -> Text:
    raise UsageError(text.text, expected="something else")


def forget(text: Text) -> Text:
    raise KeyError(text.text)


def die(dying: Dying) -> Number:
    with dying.mark.open("a") as file:
        file.write("x")
    if len(dying.mark.read_text()) <= dying.times:
        os.kill(os.getpid(), signal.SIGKILL)
    return Number(os.getpid())


def unspeakable(_: Number) -> Anything:
    return Anything(object())


def shout(text: Text) -> Text:
    print(text.text)
    return text


def sleep(_: Number) -> Number:
    time.sleep(60)
    return Number(0)


def half_done(mark: Text) -> Text:
    """Work in a temporary folder, and be killed there."""
    with scratch() as folder:
        (folder / "half").write_text("done")
        Path(mark.text).touch()
        time.sleep(60)
    return mark


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers import these functions by their module's name."""
    monkeypatch.syspath_prepend(Path(__file__).parents[3])


@pytest.fixture
def pool() -> Iterator[LocalPool]:
    with local(2) as made:
        yield made


def test_results_and_errors_come_back(pool: LocalPool) -> None:
    found = [pool.submit(square, Number(x)) for x in range(5)]
    assert [one.result().x for one in found] == [0, 1, 4, 9, 16]
    with pytest.raises(UsageError, match="so not") as error:
        pool.submit(fail, Text("so not")).result()
    assert error.value.expected == "something else"
    with pytest.raises(ExportError, match=r"at \$\.value: .* is a object, which JSON can't hold"):
        pool.submit(unspeakable, Number(0)).result()
    assert pool.submit(square, Number(3)).result().x == 9


def test_what_nobody_foresaw_is_a_defect_with_the_traceback_of_the_other_process(
    pool: LocalPool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with pytest.raises(DefectError, match="KeyError: 'oops'") as error:
        pool.submit(forget, Text("oops")).result()
    assert error.value.exit_code is Exit.DEFECT
    (kept,) = tmp_path.glob("ulsam-deploy-defect-*.txt")
    assert str(kept) in error.value.found
    assert "in forget" in kept.read_text(), "where it was fused there is lost"


def test_a_killed_worker_is_replaced_and_its_task_done_again(pool: LocalPool, tmp_path: Path) -> None:
    dying = pool.submit(die, Dying(tmp_path / "twice", 2))
    others = [pool.submit(square, Number(x)) for x in range(20)]
    assert [other.result().x for other in others] == [x * x for x in range(20)]
    assert dying.result().x != os.getpid()
    assert (tmp_path / "twice").read_text() == "xxx"


def test_a_task_that_always_kills_is_given_up(pool: LocalPool, tmp_path: Path) -> None:
    with pytest.raises(LostError, match=f"{LIVES} workers died with this task, the last one by signal 9"):
        pool.submit(die, Dying(tmp_path / "always", 99)).result()
    assert pool.submit(square, Number(4)).result().x == 16


@pytest.mark.parametrize("pause", [0.0, 0.02, 0.3])
def test_an_interrupted_run_ends_at_once(pause: float) -> None:
    """Also while a second process is being started, and no thread goes on with the next task when its process dies."""
    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt), local(2) as pool:  # noqa: PT012
        tasks = [pool.submit(sleep, Number(0)) for _ in range(4)]
        while not any(task.running() for task in tasks):
            time.sleep(0.001)
        time.sleep(pause)
        raise KeyboardInterrupt
    assert all(task.cancelled() for task in tasks[2:])
    for task in tasks[:2]:
        assert task.cancelled() or isinstance(task.exception(timeout=20), LostError)
    assert time.monotonic() - started < 30


def test_a_script_of_the_caller_runs_once_and_owns_stdout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "from ulsam_deploy.exporting.workers import local\n"
        "from tests.ulsam_deploy.exporting.test_workers import Number, Text, shout, square\n"
        "print('begun')\n"
        "with local(2) as pool:\n"
        "    print([pool.submit(square, Number(x)).result().x for x in (1, 2)])\n"
        "    print(pool.submit(shout, Text('from there')).result().text)\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[3]))
    done = subprocess.run([sys.executable, script], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "begun\n[1, 4]\nfrom there\n", "from there\n")


def test_no_more_workers_than_memory_allows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(share, "memory", lambda: 10 << 30)
    monkeypatch.setattr(share, "cores", lambda: 8)
    assert local_workers(None, 3 << 30) == 3
    assert local_workers(None, 1 << 30) == 8
    assert local_workers(None, 64 << 30) == 1
    assert local_workers(5, 3 << 30) == 5


def test_what_a_worker_leaves_when_it_is_killed_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mark = tmp_path / "mark"
    (tmp_path / "tmp").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    monkeypatch.setattr(tempfile, "tempdir", None)
    pool = LocalPool(1)
    pool.submit(half_done, Text(str(mark)))
    until = time.monotonic() + 60
    while not mark.exists() and time.monotonic() < until:
        time.sleep(0.02)
    assert list((tmp_path / "tmp").rglob("half"))
    pool.shutdown(cancel_futures=True)
    assert list((tmp_path / "tmp").iterdir()) == []
