"""One job on one board from begin to end: send, run where no lost link can stop it, fetch, and leave nothing behind.

The job's key follows from what is sent and asked. So the same command finds what an earlier one, whose link was lost,
left running or finished, and goes on from there.
"""

from __future__ import annotations

import contextlib
import dataclasses
import getpass
import hashlib
import json
import platform
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ulsam_deploy.boards.remote.link import Link, LinkLostError, StoppedError
from ulsam_deploy.device.errors import RefusedError, UlsamError, UnavailableError
from ulsam_deploy.device.hashing import digest
from ulsam_deploy.device.printing import shown, shown_lines

__all__ = ["Finished", "Order", "run_job"]

#: How long a result that nobody fetched stays on the board.
KEEP_SECONDS = 3600.0
#: How long a lost link is tried again before the command gives up (and the board goes on).
PATIENCE_SECONDS = 120.0


@dataclass(frozen=True)
class Order:
    """What a board is to do: ``words`` for its Python, in a folder with a copy of ``folder``; ``results``: file names.

    ``seconds`` is the longest that it may take.
    """

    folder: Path
    words: tuple[str, ...]
    results: tuple[str, ...] = ()
    seconds: float = 3600.0

    def key(self) -> str:
        """A name for exactly this order."""
        sha = hashlib.sha256(json.dumps([self.words, self.results, self.seconds]).encode())
        for name, path in self._files():
            with path.open("rb") as stream:
                sha.update(f"{name}\0{digest(stream)[0]}\0".encode())
        return sha.hexdigest()[:20]

    def size(self) -> int:
        """Bytes to send."""
        return sum(path.stat().st_size for _, path in self._files())

    def _files(self) -> list[tuple[str, Path]]:
        found = sorted(path for path in self.folder.rglob("*") if path.is_file())
        return [(path.relative_to(self.folder).as_posix(), path) for path in found]


@dataclass(frozen=True)
class Finished:
    """What came back: the job's exit code, stdout and stderr, the text of each result file that exists, and whether
    an earlier command had started it.
    """

    exit_code: int
    out: str
    err: str
    files: dict[str, str]
    python: str
    machine: str
    resumed: bool


def run_job(link: Link, order: Order, tell: Callable[[str], None]) -> Finished:
    """Do ``order`` on the board behind ``link``; ``tell`` hears what it writes to stderr, as it comes.

    Raises :class:`UnavailableError` (unreachable, busy, no Python, disk full, time limit, link lost for good) and
    :class:`RefusedError` (host key, a folder that somebody else owns). Whatever happens, the board is cleaned; only
    after a lost link it cleans itself, an hour after the job is done.
    """
    key, started = order.key(), False
    begun = _begin(link, key, order.size())
    try:
        if begun["state"] == "new":
            link.send(order.folder, str(begun.get("folder")), 60.0 + order.size() / 100e3)
            link.call("start", key, str(order.seconds), str(KEEP_SECONDS), *order.words)
        else:
            tell(f"{link.host}: taking up an earlier run of this very command\n")
        started = True
        _follow(link, key, order, tell)
        finished = _finished(link, key, order, begun)
    except LinkLostError as error:
        if started:
            todo = f"run the same command again within {KEEP_SECONDS / 60:.0f} minutes to fetch what comes of it"
            raise LinkLostError(f"{error.found}; the job goes on there", todo=todo) from error
        _clean(link, key)
        raise
    except BaseException:
        _clean(link, key)
        raise
    _clean(link, key)
    return finished


def _begin(link: Link, key: str, size: int) -> dict[str, Any]:
    """The board's answer when the job is ours; raises what it means otherwise, with nothing of ours there to clean."""
    try:
        begun = link.call("begin", key, _who(), str(size))
    except (LinkLostError, StoppedError):  # it may have begun: the answer is what we did not hear
        _clean(link, key)
        raise
    if begun["state"] not in ("new", "running", "done"):
        raise _obstacle(link.host, begun)
    return begun


def _who() -> str:
    try:
        name = getpass.getuser()
    except (KeyError, OSError):  # a user id without a name, as in a container
        name = "somebody"
    return f"{name}@{platform.node()}"


def _obstacle(host: str, answer: dict[str, Any]) -> UlsamError:
    owner = answer.get("owner") or {}
    whose = shown(f"{owner.get('who', 'an unknown run')} since {owner.get('since', 'an unknown time')}")
    lock = shown(str(answer.get("lock", "its lock")))
    errors: dict[str, UlsamError] = {
        "old": UnavailableError(
            f"{host} has Python {answer.get('python')}",
            expected="Python 3.10 or newer (JetPack 5 and Debian 11 have older ones)",
            todo="install a newer one there and name it with --host-python",
        ),
        "full": UnavailableError(
            f"{host} has {_mb(answer.get('free'))} free in {shown(str(answer.get('place')))}",
            expected="room for the bundle and 16 MiB more",
            todo="free some space there",
        ),
        "busy": UnavailableError(f"{host} is in use by {whose}", todo="wait until that is done"),
        "preparing": UnavailableError(f"{host} is being sent this very job by {whose}", todo="wait until that is done"),
        "stale": UnavailableError(
            f"{host} is locked by {whose}, and that run is no more: the board lost power, or the run was killed",
            todo=f"if nobody measures there now: ssh {host} rm -r {lock}",
        ),
        "foreign": RefusedError(f"somebody else's folder lies where {host} would put this job", todo="have it removed"),
    }
    return errors.get(answer["state"]) or UnavailableError(f"{host} said {answer['state']!a}")


def _mb(count: object) -> str:
    return f"{count / 1e6:.0f} MB" if isinstance(count, int) else "too little"


def _follow(link: Link, key: str, order: Order, tell: Callable[[str], None]) -> None:
    """Wait until the job is done, through lost links."""
    told, lost_at, pause = 0, 0.0, 1.0

    def hear(answer: dict[str, Any]) -> None:
        nonlocal told, lost_at, pause
        told, lost_at, pause = int(answer.get("offset", told)), 0.0, 1.0
        if answer.get("text"):
            tell(shown_lines(str(answer["text"])))

    while True:
        try:
            link.call("wait", key, str(told), seconds=order.seconds + 60.0, each=hear)
        except LinkLostError:
            lost_at = lost_at or time.monotonic()
            if time.monotonic() - lost_at > PATIENCE_SECONDS:
                raise
            link.stop.wait(pause)
            pause = min(pause * 2, 15.0)
        else:
            return


def _finished(link: Link, key: str, order: Order, begun: dict[str, object]) -> Finished:
    answer = link.call("collect", key, *order.results, seconds=300.0)
    if answer["state"] != "done":
        todo = "look whether it restarted, or ran out of memory"
        raise UnavailableError(f"{link.host}: the job vanished before it was done", todo=todo)
    if answer["ended"] != "exit":
        raise UnavailableError(
            f"{link.host}: the job was not done after {order.seconds:.0f} s and was stopped",
            todo="give it longer with --host-time-limit",
        )
    return Finished(
        exit_code=int(answer["exit"]),
        out=str(answer["out"]),
        err=str(answer["err"]),
        files={name: str(text) for name, text in answer["files"].items() if text is not None},
        python=shown(str(begun.get("python"))),
        machine=shown(str(begun.get("machine"))),
        resumed=begun["state"] != "new",
    )


def _clean(link: Link, key: str) -> None:
    """Leave nothing on the board; best effort, because the supervisor there does the same when we can't."""
    with contextlib.suppress(UlsamError):
        dataclasses.replace(link, stop=threading.Event()).call("end", key, seconds=45.0)
