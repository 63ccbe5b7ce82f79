"""Meets one input as a user would, in a process of its own, and says what came of it.

The process is a fork of this one, which has imported what every command imports: half a thousand inputs take minutes
instead of an hour. What it opens to write, starts or connects to is noted by an audit hook as it happens; what lies
where afterwards is compared with what lay there before, so that native code is seen too. :mod:`.invariants` judges what
it said; this module adds what it left behind, and how much time and memory it took.
"""

from __future__ import annotations

import atexit
import ctypes
import hashlib
import os
import resource
import shutil
import signal
import stat
import sys
import tempfile
import time
import traceback
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import invariants
from .inputs import Input

#: Where an input and its command live: folders beside each other.
PLACES = ("cwd", "outside", "home", "out", "tmp", "cache")
#: What a run may write to: where its output goes and its temporary folder, which are empty again afterwards, its cache.
OPEN = ("out", "tmp", "cache")
#: Devices that a user may name as an output.
DEVICES = (os.devnull, "/dev/full", "/dev/zero")
#: The programs that an engine is run in.
WORKERS = ("ulsam_deploy.device.elsewhere.job", "ulsam_deploy.device.elsewhere.worker")
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
#: Events that name a path which is changed by them.
CHANGES = {"os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.symlink", "os.link", "os.truncate", "os.chmod",
           "os.chown", "os.utime", "shutil.copyfile", "shutil.move", "shutil.rmtree"}  # fmt: skip
STARTS = {"os.system", "os.exec", "os.posix_spawn", "os.spawn", "subprocess.Popen", "os.fork", "pty.spawn"}
TALKS = {"socket.connect", "socket.bind", "socket.sendto", "socket.getaddrinfo"}
#: Bytes that a command may need, besides what this process had already.
MEMORY = 3 << 30
#: Bytes of address space at which a command is stopped, so that the machine survives it.
MOST = 8 << 30
#: Seconds in which what a command started has to end after it.
AFTERWARDS = 3.0
PR_SET_CHILD_SUBREAPER = 36


@dataclass(frozen=True)
class Seen:
    """What came of one input.

    ``code`` is the exit code, or minus the signal that ended the process. ``wrote``: the text of its documents.
    ``left``: what was still there afterwards, processes and unfinished files. ``memory``: bytes at its peak, of the
    largest of its processes.
    """

    input: Input
    code: int
    said: str
    wrote: str
    escaped: tuple[str, ...]
    ran: tuple[str, ...]
    left: tuple[str, ...]
    memory: int
    seconds: float

    @property
    def crashed(self) -> bool:
        """The command's own process died, hung, or showed its insides."""
        return self.code < 0 or "Traceback (most recent call last)" in self.said

    @property
    def sentence(self) -> bool:
        """The user was told in words."""
        told = any(words in self.said for words in ("error: ", "not run here: "))
        return told or self.code not in (3, 6) or 2 in self.input.full

    @property
    def problems(self) -> list[str]:
        """What should not have been; empty when all is well."""
        found = ["crashed"] if self.crashed else []
        found += ["no sentence"] if not self.sentence else []
        found += [f"ended with {self.code}"] if self.code not in self.input.codes and not self.crashed else []
        found += [f"said: {what}" for what in invariants.text(self.said)]
        found += [f"wrote: {what}" for what in invariants.characters(self.wrote)]
        found += [f"took {self.memory / 2**30:.1f} GiB"] if self.memory > MEMORY else []
        found += [f"left: {what}" for what in self.left]
        return [*found, *(f"escaped: {what}" for what in self.escaped), *(f"ran: {what}" for what in self.ran)]


def meet(one: Input, room: Path) -> Seen:
    """Let ``one`` loose in the new folder ``room``, which is removed afterwards."""
    for place in PLACES:
        (room / place).mkdir(parents=True)
    (room / "cache").chmod(0o700)
    (room / "outside" / "secret.bin").write_bytes(bytes(range(16)))
    words = one.make(room / "cwd")
    before, began = state(room), time.monotonic()
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)  # orphans of the command become children of this process
    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    process = os.fork()
    if process == 0:
        child(words, room, one, _hook)
    code, most = wait(process, one.seconds)
    left = (*running(), *unfinished(room))
    said = (room / "said").read_text(errors="replace")
    noted = (room / "noted").read_text().splitlines() if (room / "noted").exists() else []
    after = state(room)
    escaped = [line for line in noted if not line.startswith(("started", "spoke"))]
    changes = {name for name, _ in before.items() ^ after.items()}
    escaped += [f"changed {name}" for name in sorted(changes) if not (one.writes and name.startswith("out/"))]
    said += "".join(path.read_text(errors="replace") for path in sorted((room / "out").glob("*.md")))
    seen = Seen(
        one, code, said, invariants.documents(room / "out"), tuple(dict.fromkeys(escaped)),
        tuple(line for line in noted if line.startswith(("started", "spoke"))), left, (most - own) << 10,
        time.monotonic() - began,
    )  # fmt: skip
    shutil.rmtree(room)
    return seen


def state(room: Path) -> dict[str, str]:
    """Everything that lies in ``room`` and may not change, by name; the cache is free to."""
    found = {}
    for place in set(PLACES) - {"cache"}:
        for path in (room / place).rglob("*"):
            state = path.lstat()
            plain = stat.S_ISREG(state.st_mode)
            content = hashlib.sha256(path.read_bytes()).hexdigest() if plain and state.st_size < 1 << 25 else ""
            found[str(path.relative_to(room))] = f"{state.st_mode:o} {state.st_size if plain else ''} {content}"
    return found


def wait(process: int, seconds: float) -> tuple[int, int]:
    """Its exit code and the KiB that the largest of its processes took; it is killed after ``seconds``."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        done, status, used = os.wait4(process, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status), used.ru_maxrss
        time.sleep(0.002)
    os.kill(process, signal.SIGKILL)
    return -int(signal.SIGALRM), os.wait4(process, 0)[2].ru_maxrss


def running(seconds: float = AFTERWARDS) -> tuple[str, ...]:
    """What the command started and what still runs after it and a moment; all of it is killed."""
    until = time.monotonic() + seconds
    while (found := _children()) and time.monotonic() < until:
        time.sleep(0.01)
    for process in found:
        os.kill(process, signal.SIGKILL)
        os.waitpid(process, 0)
    return tuple(f"a process: {words}" for words in found.values())


def _children() -> dict[int, str]:
    """The children of this process that still run, with their command lines."""
    found = {}
    for process in map(int, Path("/proc/self/task", str(os.getpid()), "children").read_text().split()):
        words = Path("/proc", str(process), "cmdline").read_bytes()[-200:].replace(b"\0", b" ").decode(errors="replace")
        if not os.waitpid(process, os.WNOHANG)[0]:
            found[process] = words
    return found


def unfinished(room: Path) -> tuple[str, ...]:
    """Files and folders that a run in ``room`` did not finish."""
    return tuple(f"{path.relative_to(room)}" for path in room.rglob(".*.partial-*"))


def child(words: Sequence[str], room: Path, one: Input, hook: Callable[[Path, int], Any]) -> None:
    """In the new process: become the command ``words`` in ``room``; ``hook`` makes its audit hook. Never returns."""
    code = 1
    weakref.finalize._registry.clear()  # type: ignore[attr-defined]  # what the parent cleans up is not the child's
    try:
        os.setsid()
        said = os.open(room / "said", os.O_WRONLY | os.O_CREAT, 0o600)
        noted = os.open(room / "noted", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        for stream in (1, 2):
            os.dup2(os.open(one.full[stream], os.O_WRONLY) if stream in one.full else said, stream)
        os.chdir(room / "cwd")
        os.environ.update(
            TMPDIR=str(room / "tmp"), HOME=str(room / "home"), ULSAM_DEPLOY_CACHE=str(room / "cache"),
            PYTHONDONTWRITEBYTECODE="1", MPLCONFIGDIR=str(room / "cache"), **one.environment,
        )  # fmt: skip
        resource.setrlimit(resource.RLIMIT_AS, (one.memory or MOST,) * 2)
        tempfile.tempdir = None
        sys.dont_write_bytecode = True
        from ulsam_deploy import cli

        sys.addaudithook(hook(room, noted))
        code = cli.main(words)
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        for sign in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):  # what comes now is not the command's any more
            signal.signal(sign, signal.SIG_IGN)
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def writes(flags: Any) -> bool:
    """Whether a file that is opened with ``flags`` may be changed."""
    return isinstance(flags, int) and bool(flags & WRITES)


def _is_folder(path: Any) -> bool:
    """Whether a file without a name is opened in a folder, which only tests whether there is room."""
    return isinstance(path, (str, bytes, os.PathLike)) and os.path.isdir(path)  # noqa: PTH112 - it may be bytes


def _is_worker(event: str, arguments: tuple[Any, ...]) -> bool:
    """Whether it is an engine that is started, or what Python's ``platform`` asks for the processor's name."""
    if event == "subprocess.Popen" and arguments[1] == ["uname", "-p"]:
        return True
    return event == "subprocess.Popen" and arguments[1][:1] == [sys.executable] and arguments[1][3] in WORKERS


def _hook(room: Path, noted: int) -> Any:
    free = tuple(f"{room / place}/" for place in OPEN)

    def note(words: str) -> None:
        os.write(noted, (words.replace("\n", " ")[:300] + "\n").encode(errors="replace"))

    def outside(path: Any, folder: int = -1) -> bool:
        if not isinstance(path, (str, bytes, os.PathLike)):
            return False
        beside = str(Path.cwd()) if folder < 0 else str(Path(f"/proc/self/fd/{folder}").readlink())
        where = os.path.abspath(os.path.join(beside, os.fsdecode(path)))  # noqa: PTH100, PTH118 - links stay links
        return where not in DEVICES and not f"{where}/".startswith(free)

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open" and writes(arguments[2]) and outside(arguments[0]) and not _is_folder(arguments[0]):
            note(f"wrote {arguments[0]!r}")
        elif event in CHANGES:
            folder = arguments[-1] if event in ("os.remove", "os.rmdir", "os.mkdir") else -1
            if any(outside(path, folder) for path in arguments[event == "shutil.copyfile" : 2]):
                note(f"{event} {arguments[:2]!r}")
        elif event in STARTS and not _is_worker(event, arguments):
            note(f"started {event} {arguments[:2]!r}")
        elif event in TALKS:
            note(f"spoke {event} {arguments[1:]!r}")

    return hook
