"""The part that runs on a board: its Python reads this file from ``ssh``, does one job, and leaves nothing behind.

All is tied to the one session: the job's files arrive as a tar stream, and when the input ends, or the host is silent
for a while, the job is stopped. Folder and lock are removed however this ends; leftovers of a power loss or a kill are
removed by the next run.

Standard library only, and syntax of Python 3.8, so that a board with an older Python gets a clear error. Every answer
is one line, ``MARK`` and a JSON object, so that the output of a login script is not mistaken for one.
"""

from __future__ import annotations

import codecs
import contextlib
import fcntl
import json
import os
import platform
import select
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

MARK = "ulsam-deploy-board "
#: The host counts as lost if it is silent for so long; it sends a byte every 10 seconds.
SILENCE_SECONDS = 60.0
#: The most characters of one file that are sent back.
MAX_CHARACTERS = 64 << 20


def say(**answer: object) -> None:
    """Print one answer."""
    print(MARK + json.dumps(answer), flush=True)


def main(order: dict[str, Any]) -> None:
    """Execute ``order``: Python's arguments ``words``, ``results``, ``limit`` (s), ``size`` (bytes), ``who``."""
    here = {"python": platform.python_version(), "machine": platform.machine()}
    if sys.version_info < (3, 10):  # noqa: UP036 - a board may well have an older one
        return say(state="old", **here)
    for end in (signal.SIGHUP, signal.SIGTERM):
        signal.signal(end, lambda *_: sys.exit(1))
    place = Path(tempfile.gettempdir())
    with _lock(place / "ulsam-deploy.lock", order["who"]) as owner:
        if owner is not None:
            return say(state="busy", owner=owner)
        prefix = f"ulsam-deploy-{os.getuid()}-"
        for dead in place.glob(prefix + "*"):  # this process has the lock, so their owner is dead
            shutil.rmtree(str(dead), ignore_errors=True)
        free = shutil.disk_usage(str(place)).free
        if free < order["size"] + (16 << 20):
            return say(state="full", free=free, place=str(place))
        folder = Path(tempfile.mkdtemp(prefix=prefix))
        try:
            with tarfile.open(fileobj=sys.stdin.buffer, mode="r|") as archive:
                newer: dict[str, Any] = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}
                archive.extractall(str(folder / "work"), **newer)
            say(state="began", **here)
            return say(**_run(order, folder))
        finally:
            shutil.rmtree(str(folder), ignore_errors=True)


@contextlib.contextmanager
def _lock(path: Path, who: str) -> Iterator[str | None]:
    """Lock the board, because simultaneous measurements are invalid; yields another holder's name, or ``None``.

    The kernel releases the lock when this process ends.
    """
    while True:
        try:
            lock = os.open(str(path), os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o644)
        except PermissionError:  # another user's
            lock = os.open(str(path), os.O_RDONLY | os.O_NOFOLLOW)
        try:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield os.read(lock, 200).decode("utf-8", "replace")
                return
            if not path.exists() or not os.path.samestat(os.fstat(lock), path.stat()):
                continue  # its owner removed it just before it was locked here
            with contextlib.suppress(OSError):  # another user's, who died
                os.ftruncate(lock, 0)
                os.write(lock, f"{who} since {time.strftime('%Y-%m-%d %H:%M:%S %Z')}".encode())
            try:
                yield None
            finally:
                with contextlib.suppress(OSError):
                    path.unlink()
            return
        finally:
            os.close(lock)


def _run(order: dict[str, Any], folder: Path) -> dict[str, Any]:
    """The last answer: how the job ended, what it printed, and the text of its result files."""
    # Files that engines leave in the temporary folder (ONNX Runtime does) are removed with the job's own.
    (folder / "tmp").mkdir()
    with (folder / "out").open("wb") as out:
        job = subprocess.Popen(
            [sys.executable, *order["words"]],
            cwd=str(folder / "work"),
            env=dict(os.environ, TMPDIR=str(folder / "tmp")),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
    try:
        ended = _follow(job, order["limit"])
    finally:
        _stop(job)
    files = {name: _text(folder / "work" / name) for name in order["results"]}
    return {"state": ended, "exit": job.returncode, "out": _text(folder / "out"), "files": files}


def _follow(job: subprocess.Popen[bytes], limit: float) -> str:
    """Pass on the job's stderr until it is ``done``, the ``time limit`` is exceeded, or the host is ``lost``."""
    assert job.stderr is not None
    words = codecs.getincrementaldecoder("utf-8")("replace")
    heard = began = time.monotonic()
    listening: list[Any] = [0, job.stderr]
    while True:
        ready = select.select(listening, [], [], 1.0)[0]
        if job.stderr in ready:
            new = os.read(job.stderr.fileno(), 1 << 16)
            say(text=words.decode(new, final=not new))
            if not new:  # stderr has ended, so the job usually exits now
                listening.remove(job.stderr)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    job.wait(1.0)
        elif job.poll() is not None:
            return "done"
        now = time.monotonic()
        if 0 in ready:
            heard = now
        if (0 in ready and not os.read(0, 4096)) or now - heard > SILENCE_SECONDS:
            return "lost"
        if now - began > limit:
            return "time limit"


def _stop(job: subprocess.Popen[bytes]) -> None:
    """End the job and every child of it."""
    for word in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(job.pid, word)
        with contextlib.suppress(subprocess.TimeoutExpired):
            job.wait(5.0)


def _text(path: Path) -> str | None:
    try:
        with path.open(encoding="utf-8", errors="replace") as stream:
            return stream.read(MAX_CHARACTERS)
    except OSError:
        return None


if __name__ == "__main__":
    main(json.loads(sys.argv[2]))
