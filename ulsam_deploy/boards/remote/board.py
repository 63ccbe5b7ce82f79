"""The half that runs on a board: its Python reads this file from ``ssh``, does one job, and leaves nothing.

Everything belongs to the one session: the job's files come in as a tar stream, and when the input ends, or the host
says nothing for a while, the job is stopped. Folder and lock are removed however this ends; what a loss of power or a
kill left is removed by the next run.

Standard library only, and a grammar that Python 3.8 reads, so that an older board can be told what it lacks. Every
answer is one line, ``MARK`` and a JSON object: what a login script prints before it is not mistaken for one.
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
#: The host is taken for lost when nothing was heard from it for so long; it says something every 10 seconds.
SILENCE_SECONDS = 60.0
#: How many characters of one file come back at most.
MAX_CHARACTERS = 64 << 20


def say(**answer: object) -> None:
    """Print one answer."""
    print(MARK + json.dumps(answer), flush=True)


def main(order: dict[str, Any]) -> None:
    """Do ``order``: ``words`` for this Python, ``results`` to fetch, ``limit`` (s), ``size`` (bytes) and ``who``."""
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
        for dead in place.glob(prefix + "*"):  # the lock is ours: whoever made it is no more
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
    """One for the whole board, whoever asks: two measurements at once are none. Who has it, or ``None``: we do.

    The kernel lets go of it with this process.
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
                continue  # it was removed by its owner just before we had it
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
    # What engines leave in the temporary folder (ONNX Runtime does) goes with the job's own.
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
    """Pass on the job's stderr until it is ``done``, the ``time limit`` is over, or the host is ``lost``."""
    assert job.stderr is not None
    words = codecs.getincrementaldecoder("utf-8")("replace")
    heard = began = time.monotonic()
    listening: list[Any] = [0, job.stderr]
    while True:
        ready = select.select(listening, [], [], 1.0)[0]
        if job.stderr in ready:
            new = os.read(job.stderr.fileno(), 1 << 16)
            say(text=words.decode(new, final=not new))
            if not new:  # as a rule it ends now
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
