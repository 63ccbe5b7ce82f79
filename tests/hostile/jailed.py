"""What the process of each engine may do while an artifact is open in it: ``python -m tests.hostile.jailed [--write]``.

The process is the one of ``verify`` and ``bench``: it enters the jail, then the engine is imported, opens an artifact
and runs it, and then does what code that has taken it over would try, also from a new thread and from a forked child.
Each attempt is made with and without the jail; ``--write`` puts the table into docs/security.md.
"""

from __future__ import annotations

import argparse
import os
import platform
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ulsam_deploy.device.bundle import read_bundle
from ulsam_deploy.device.elsewhere import job
from ulsam_deploy.device.elsewhere.limits import Limits
from ulsam_deploy.device.parity import Golden
from ulsam_deploy.device.types import EvidenceLevel
from ulsam_deploy.device.verify import execute

from ..ulsam_deploy.handmade import TARGETS, make_bundle

PAGE = Path(__file__).parents[2] / "docs" / "security.md"
BEGIN, END = "<!-- made by tests/hostile/jailed.py -->", "<!-- end of jailed -->"
ENGINES = {"onnx": "ONNX Runtime", "openvino": "OpenVINO", "tflite": "LiteRT"}
#: What stays possible, and why it is no harm or no more than SECURITY.md says.
REMAINS = frozenset({"read a file of the user", "fork", "write to its own temporary folder"})


@dataclass(frozen=True)
class Question:
    """The bundle in the folder ``bundle``, whose artifact for ``target`` is opened; harm is tried in ``outside``."""

    bundle: Path
    target: str
    outside: Path


@dataclass(frozen=True)
class Tried:
    """What was attempted, and how much of it succeeded, by name; whether the artifact ran."""

    attempted: tuple[str, ...]
    possible: tuple[str, ...]
    ran: bool


def tried(question: Question) -> Tried:
    """In the engine's process: run the artifact, then try everything."""
    bundle = read_bundle(question.bundle)
    record = bundle.artifact(question.target, "fp32")
    found = execute(
        record.target, bundle.files(record), record.inputs, record.outputs, Golden.load(bundle.golden),
        precision=record.precision, timed=False, threads=2, provider="",
    )  # fmt: skip
    outside, own = question.outside, Path(tempfile.gettempdir())
    attempts: dict[str, Callable[[], object]] = {
        "write a file": lambda: (outside / "new").write_text("x"),
        "change a file": lambda: (outside / "there").open("r+").close(),
        "remove a file": lambda: (outside / "gone").unlink(),
        "write a file, from a new thread": lambda: _in_a_thread(lambda: (outside / "thread").write_text("x")),
        "write a file, from a forked child": lambda: _in_a_child(lambda: (outside / "child").write_text("x")),
        "execute a program": lambda: _in_a_child(lambda: os.execv("/bin/true", ["true"])),
        "a TCP socket": lambda: socket.socket().close(),
        "a UDP socket": lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM).close(),
        "a local socket": lambda: socket.socket(socket.AF_UNIX).close(),
        "a socket, from a forked child": lambda: _in_a_child(lambda: socket.socket().close()),
        "a signal to another process": lambda: os.kill(os.getppid(), 0),
        "fork": lambda: _in_a_child(lambda: None),
        "write to its own temporary folder": lambda: (own / "mine").write_text("x"),
        "read a file of the user": lambda: (outside / "there").read_text(),
    }
    return Tried(
        tuple(attempts),
        tuple(name for name, one in attempts.items() if _succeeds(one)),
        found.level is EvidenceLevel.EXECUTED,
    )


def _succeeds(attempt: Callable[[], object]) -> bool:
    try:
        attempt()
    except OSError:
        return False
    return True


def _in_a_thread(attempt: Callable[[], object]) -> None:
    done: list[bool] = []
    thread = threading.Thread(target=lambda: done.append(_succeeds(attempt)))
    thread.start()
    thread.join()
    if not done[0]:
        raise PermissionError


def _in_a_child(attempt: Callable[[], object]) -> None:
    child = os.fork()
    if child == 0:
        os._exit(0 if _succeeds(attempt) else 1)
    if os.waitpid(child, 0)[1]:
        raise PermissionError


def asked(folder: Path, target: str, jail: str) -> Tried:
    """What the engine of ``target`` could do; ``folder`` is an empty one."""
    bundle = make_bundle(folder / "dense.bundle", targets=(target,), width=16, batch=1)
    outside = folder / "outside"
    outside.mkdir()
    for name in ("there", "gone"):
        (outside / name).write_text("mine")
    return job.do(tried, Question(bundle.root, target, outside), Limits(120, 4 << 30, jail), "the harm")


def main(argv: Sequence[str] | None = None) -> int:
    """Print the table; 1 when an engine could do more than it should."""
    parser = argparse.ArgumentParser(prog="python -m tests.hostile.jailed", description=__doc__)
    parser.add_argument("--write", action="store_true", help=f"put the table into {PAGE.name}")
    arguments = parser.parse_args(argv)
    found: dict[tuple[str, str], Tried] = {}
    for target in TARGETS:
        for jail in ("require", "off"):
            with tempfile.TemporaryDirectory() as name:
                found[target, jail] = asked(Path(name), target, jail)
    text = _table(found)
    print(text)
    if arguments.write:
        before, _, rest = PAGE.read_text().partition(BEGIN)
        PAGE.write_text(f"{before}{BEGIN}\n\n{text}\n\n{END}{rest.partition(END)[2]}")
    return int(any(set(one.possible) != REMAINS or not one.ran for (_, jail), one in found.items() if jail != "off"))


def _table(found: dict[tuple[str, str], Tried]) -> str:
    (first, *_) = found.values()
    lines = [f"| attempt | {' | '.join(ENGINES[target] for target in TARGETS)} | without the jail |"]
    lines.append("|---" * (len(TARGETS) + 2) + "|")
    for name in first.attempted:
        cells = ["possible" if name in found[target, "require"].possible else "refused" for target in TARGETS]
        free = all(name in found[target, "off"].possible for target in TARGETS)
        lines.append(f"| {name} | {' | '.join(cells)} | {'possible' if free else 'refused'} |")
    return "\n".join(lines) + f"\n\n{time.strftime('%d %B %Y')}, Linux {platform.release()}."


if __name__ == "__main__":
    from tests.hostile import jailed  # the engine's process imports this module by its name

    sys.exit(jailed.main())
