"""One job on one board, in one session: send, run, fetch, and leave nothing behind. Losing the link ends the job."""

from __future__ import annotations

import getpass
import platform
import tarfile
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ulsam_deploy.boards.remote.link import Link
from ulsam_deploy.device import codec
from ulsam_deploy.device.errors import UlsamError, UnavailableError
from ulsam_deploy.device.printing import shown, shown_lines

__all__ = ["Finished", "Order", "run_job"]


@dataclass(frozen=True)
class Order:
    """A job for a board: Python's arguments ``words``, run in a copy of ``folder``; ``results``: names of result files.

    ``seconds`` is its timeout.
    """

    folder: Path
    words: tuple[str, ...]
    results: tuple[str, ...] = ()
    seconds: float = 3600.0


@dataclass(frozen=True)
class Finished:
    """The result of a job: its exit code, stdout and stderr, and the text of each result file that exists."""

    exit_code: int
    out: str
    err: str
    files: dict[str, str]
    python: str
    machine: str


@dataclass(frozen=True)
class _Ended:
    """The last answer of a board whose job was done: what it must hold, and nothing else."""

    state: str
    exit: int
    out: str | None
    files: Mapping[str, str | None]


def run_job(link: Link, order: Order, tell: Callable[[str], None]) -> Finished:
    """Execute ``order`` on the board of ``link``; ``tell`` gets its stderr as it arrives.

    Raises:
        UnavailableError: Unreachable, busy, no Python, disk full, time limit, link lost.
        RefusedError: A host key that isn't known, or an answer that makes no sense.
        StoppedError: ``link.stop`` was set. However it ends, the board is cleaned.
    """
    begun, last, err = dict[str, Any](), dict[str, Any](), list[str]()

    def hear(answer: dict[str, Any]) -> None:
        if "text" in answer:
            err.append(str(answer["text"]))
            tell(shown_lines(err[-1]))
        else:
            (begun if answer.get("state") == "began" else last).update(answer)

    with tempfile.TemporaryFile() as packed:
        with tarfile.open(fileobj=packed, mode="w", dereference=True) as archive:
            for path in sorted(order.folder.iterdir()):
                archive.add(path, path.name)
        asked = {"words": order.words, "results": order.results, "limit": order.seconds, "who": _who()}
        link.talk({**asked, "size": packed.tell()}, packed, hear, order.seconds + 120.0 + packed.tell() / 100e3)
    if last.get("state") != "done":
        raise _obstacle(link.host, last, order)
    ended = codec.decode(_Ended, last, f"the answer of {link.host}")
    return Finished(
        exit_code=ended.exit,
        out=ended.out or "",
        err="".join(err),
        files={name: text for name in order.results if (text := ended.files.get(name)) is not None},
        python=shown(str(begun.get("python"))),
        machine=shown(str(begun.get("machine"))),
    )


def _who() -> str:
    try:
        name = getpass.getuser()
    except (KeyError, OSError):  # a user id without a name, as in a container
        name = "somebody"
    return f"{name}@{platform.node()}"


def _obstacle(host: str, answer: dict[str, Any], order: Order) -> UlsamError:
    free = answer.get("free")
    room = f"{free / 1e6:.0f} MB" if isinstance(free, int) else "too little"
    errors: dict[Any, UlsamError] = {
        "old": UnavailableError(
            f"{host} has Python {shown(str(answer.get('python')))}",
            expected="Python 3.10 or newer (JetPack 5 and Debian 11 have older ones)",
            todo="install a newer one there and name it with --host-python",
        ),
        "full": UnavailableError(
            f"{host} has {room} free in {shown(str(answer.get('place')))}",
            expected="space for the bundle and 16 MiB more",
            todo="free some space there",
        ),
        "busy": UnavailableError(
            f"{host} is in use by {shown(str(answer.get('owner'))) or 'another run'}",
            todo="wait until that is done",
        ),
        "lost": UnavailableError(f"{host} heard nothing from here for a minute and stopped", todo="run it again"),
        "time limit": UnavailableError(
            f"{host}: the job was not done after {order.seconds:.0f} s and was stopped",
            todo="give it longer with --host-time-limit",
        ),
    }
    state = str(answer.get("state"))
    return errors.get(state) or UnavailableError(f"{host} said {state[:200]!a}")
