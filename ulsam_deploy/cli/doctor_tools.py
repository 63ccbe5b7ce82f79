"""What ``doctor`` asks for besides exporters and engines, on the host: the questions of the code that needs it."""

from __future__ import annotations

import functools
import shutil
from collections.abc import Callable, Iterator

from ulsam_deploy.device.third_party import installed
from ulsam_deploy.device.types import Availability

Question = tuple[str, str, Callable[[], Availability]]


def questions() -> Iterator[Question]:
    """What it is for, its name, and how to ask; nothing is asked yet."""
    yield "write", "report.html", _report
    yield "read", "pictures", _pictures
    yield from _emulation()
    yield "use", "boards by --host", _ssh
    yield "sign", "bundles", _signing
    yield "sweep", "on a cluster", _cluster
    yield "draw", "tables", functools.partial(installed, "rich", extra="report")


def _report() -> Availability:
    from ulsam_deploy.report import page

    return installed(*page.NEEDS, extra="report")


def _pictures() -> Availability:
    return installed("PIL", todo="pip install pillow")


def _emulation() -> Iterator[Question]:
    """Every board that a profile describes, the user's own among them."""
    from ulsam_deploy.boards.emulate import available
    from ulsam_deploy.device.profiles import devices

    boards = [name for name, found in devices().items() if found.arm]
    for board in boards:
        yield "emulate", board, functools.partial(available.verifying, board)
    for board in boards[:1]:
        yield "count", "instructions", functools.partial(available.counting, board)


def _ssh() -> Availability:
    found = shutil.which("ssh")
    return Availability(True, found) if found else Availability(False, "no ssh", "sudo apt-get install openssh-client")


def _signing() -> Availability:
    from ulsam_deploy.exporting import signing

    return signing.available()


def _cluster() -> Availability:
    from ulsam_deploy.sweep import executors

    return executors.available()
