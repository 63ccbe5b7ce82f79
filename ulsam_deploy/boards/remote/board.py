"""The half that runs on a board: its Python reads this file from ``ssh`` and does one verb. Nothing is installed.

``begin`` takes the board's lock, makes the job's folder and leaves a supervisor behind, a process of its own that no
lost link can kill. ``start`` lets the supervisor run the job; ``wait`` passes on what the job says until it is done;
``collect`` prints the result; ``end`` stops whatever still runs and removes everything. The supervisor removes folder
and lock itself when nobody comes: so no fate of the host leaves anything on the board.

Standard library only, and a grammar that Python 3.8 reads, so that an older board can be told what it lacks. Every
answer is one line, ``MARK`` and a JSON object: what a login script prints before it is not mistaken for one.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

MARK = "ulsam-deploy-board "
#: How long a supervisor waits for the files and the word to start; an upload that takes longer renews it.
PREPARE_SECONDS = 300.0
#: How many characters of one file come back at most.
MAX_CHARACTERS = 64 << 20


def say(**answer: object) -> None:
    """Print one answer."""
    print(MARK + json.dumps(answer), flush=True)


def begin(key: str, who: str, needed: str) -> None:
    """Answer ``new``, with the folder to send files to, or what there is instead: ``running``, ``done``, ``busy``, ...

    ``needed`` bytes must be free beside a margin of 16 MiB.
    """
    here = {"python": platform.python_version(), "machine": platform.machine()}
    if sys.version_info < (3, 10):  # noqa: UP036 - a board may well have an older one
        return say(state="old", **here)
    folder = _folder(key)
    if folder.is_symlink() or folder.exists():
        state = _state(folder)
        if state != "dead":
            return say(state=state, owner=_read(folder / "job.json"), **here)
        _release(_read(folder / "job.json"))
        shutil.rmtree(str(folder))
    free = shutil.disk_usage(str(folder.parent)).free
    if free < int(needed) + (16 << 20):
        return say(state="full", free=free, place=str(folder.parent), **here)
    try:
        _lock().mkdir(mode=0o755)
    except FileExistsError:
        owner = _read(_lock() / "owner.json")
        state = "busy" if owner and _alive(owner["supervisor"]) else "stale"
        return say(state=state, owner=owner, lock=str(_lock()), **here)
    try:
        (folder / "work").mkdir(mode=0o700, parents=True)
        folder.chmod(0o700)
        _leave_supervisor(folder, {"who": who, "since": time.strftime("%Y-%m-%d %H:%M:%S %Z"), "key": key})
    except BaseException:
        shutil.rmtree(str(folder), ignore_errors=True)
        shutil.rmtree(str(_lock()), ignore_errors=True)
        raise
    return say(state="new", folder=str(folder / "work"), **here)


def start(key: str, limit: str, keep: str, *words: str) -> None:
    """Run ``words`` with this Python, in the job's folder, for ``limit`` seconds at most; keep the result ``keep``."""
    folder = _folder(key)
    if _state(folder) == "preparing":
        _write(folder / "go.json", {"words": words, "limit": float(limit), "keep": float(keep)})
    say(state=_state(folder))


def wait(key: str, offset: str) -> None:
    """Say what the job writes to stderr, from byte ``offset`` on, until it is done."""
    folder, told, pause = _folder(key), int(offset), 0.05
    while True:
        state = _state(folder)
        new = b""
        with contextlib.suppress(OSError), (folder / "err").open("rb") as log:
            log.seek(told)
            new = log.read()
        told += len(new)
        if new or state not in ("running", "preparing"):
            say(state=state, text=new.decode("utf-8", "replace"), offset=told)
        if state not in ("running", "preparing"):
            return
        time.sleep(pause)
        pause = min(pause * 1.5, 1.0)  # a waiting host must not be what disturbs a measurement


def collect(key: str, *names: str) -> None:
    """Say how the job ended, what it printed, and the text of the files ``names`` in its folder."""
    folder = _folder(key)
    done = _read(folder / "done.json")
    if _state(folder) != "done" or done is None:
        return say(state=_state(folder))
    files = {name: _text(folder / "work" / name) for name in names}
    return say(state="done", out=_text(folder / "out"), err=_text(folder / "err"), files=files, **done)


def end(key: str) -> None:
    """Stop the job if it runs, remove its folder, let go of the lock."""
    folder = _folder(key)
    job = _read(folder / "job.json") if _state(folder) != "foreign" else None
    if job and _alive(job["supervisor"]):
        with contextlib.suppress(ProcessLookupError):
            os.kill(_pid(job["supervisor"]), signal.SIGTERM)
        deadline = time.monotonic() + 15.0
        while _alive(job["supervisor"]) and time.monotonic() < deadline:
            time.sleep(0.02)
    if job:
        shutil.rmtree(str(folder), ignore_errors=True)
        _release(job)
    say(state="gone" if not folder.exists() else "left")


def _folder(key: str) -> Path:
    return Path(tempfile.gettempdir()) / f"ulsam-deploy-{os.getuid()}-{key}"


def _lock() -> Path:
    """One for the whole board, whoever asks: two measurements at once are none."""
    return Path(tempfile.gettempdir()) / "ulsam-deploy.lock"


def _state(folder: Path) -> str:
    try:
        found = folder.lstat()
    except FileNotFoundError:
        return "gone"
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
        return "foreign"  # somebody else's, in a folder that everybody may write to
    if (folder / "done.json").exists():
        return "done"
    job = _read(folder / "job.json")
    if not job or not _alive(job["supervisor"]):
        return "dead"
    return "running" if (folder / "go.json").exists() else "preparing"


def _leave_supervisor(folder: Path, owner: dict[str, object]) -> None:
    """Fork twice, so that the supervisor belongs to no session, and return when it holds the lock."""
    ready, tell = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.setsid()
            if os.fork() == 0:
                _supervise(folder, owner, tell)
            status = 0
        finally:
            os._exit(status)
    os.close(tell)
    os.waitpid(child, 0)
    if os.read(ready, 1) != b"!":
        raise OSError("no process could be left behind")


def _supervise(folder: Path, owner: dict[str, object], tell: int) -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    owner = dict(owner, supervisor=_identity(os.getpid()))
    try:
        _write(_lock() / "owner.json", owner)
        _write(folder / "job.json", owner)
        os.write(tell, b"!")
        os.close(tell)
        nowhere = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1, 2):  # sshd waits for whoever holds these
            os.dup2(nowhere, stream)
        _serve(folder, owner)
    finally:
        shutil.rmtree(str(folder), ignore_errors=True)
        _release(owner)


def _serve(folder: Path, owner: dict[str, object]) -> None:
    go, here, deadline = folder / "go.json", -1, 0.0
    while not go.exists():
        if here != (here := _bytes(folder)):
            deadline = time.monotonic() + PREPARE_SECONDS
        if time.monotonic() > deadline:
            return
        time.sleep(0.1)
    order = _read(go) or {}
    _write(folder / "done.json", _run(order["words"], folder, order["limit"]))
    _release(owner)
    deadline = time.monotonic() + order["keep"]
    while folder.exists() and time.monotonic() < deadline:
        time.sleep(0.2)


def _bytes(folder: Path) -> int:
    total = 0
    for entry in folder.rglob("*"):
        with contextlib.suppress(OSError):  # renamed meanwhile
            total += entry.lstat().st_size
    return total


def _run(words: list[str], folder: Path, limit: float) -> dict[str, Any]:
    began = time.monotonic()
    # What engines leave in the temporary folder (ONNX Runtime does) goes with the job's own.
    (folder / "tmp").mkdir(mode=0o700)
    with (folder / "out").open("wb") as out, (folder / "err").open("wb") as err:
        job = subprocess.Popen(
            [sys.executable, *words],
            cwd=str(folder / "work"),
            env=dict(os.environ, TMPDIR=str(folder / "tmp")),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            start_new_session=True,
        )
        ended = "exit"
        try:
            job.wait(limit)
        except subprocess.TimeoutExpired:
            ended = "time limit"
        finally:
            _stop(job)
    return {"exit": job.returncode, "ended": ended, "seconds": time.monotonic() - began}


def _stop(job: subprocess.Popen[bytes]) -> None:
    """End the job and every child of it: politely, because it may have to restore a setting of the board."""
    for word in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(job.pid, word)
        with contextlib.suppress(subprocess.TimeoutExpired):
            job.wait(5.0)


def _release(owner: dict[str, object] | None) -> None:
    """Remove the lock if it is ``owner``'s."""
    if owner and _read(_lock() / "owner.json") == owner:
        shutil.rmtree(str(_lock()), ignore_errors=True)


def _identity(pid: int) -> str:
    """A process by more than its number, which the next one may get: boot, number, and start in clock ticks."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        started = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except OSError:
        return f"- {pid} -"
    return f"{boot} {pid} {started}"


def _pid(identity: str) -> int:
    return int(identity.split()[1])


def _alive(identity: str) -> bool:
    pid = _pid(identity)
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # another user's: it may be hidden from us in /proc, and is there
    now = _identity(pid)
    return now == identity or now.startswith("- ")


def _read(path: Path) -> dict[str, Any] | None:
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def _write(path: Path, document: dict[str, object]) -> None:
    """Whole or not at all: whoever looks at this name looks at any moment."""
    half = path.with_name(path.name + ".half")
    half.write_text(json.dumps(document))
    half.rename(path)


def _text(path: Path) -> str | None:
    try:
        with path.open(encoding="utf-8", errors="replace") as stream:
            return stream.read(MAX_CHARACTERS)
    except OSError:
        return None


if __name__ == "__main__":
    VERBS: dict[str, Any] = {"begin": begin, "start": start, "wait": wait, "collect": collect, "end": end}
    VERBS[sys.argv[1]](*sys.argv[2:])
