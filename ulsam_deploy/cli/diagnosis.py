"""What ``doctor`` reports on the host: every exporter and its precisions, every engine, and every other tool."""

from __future__ import annotations

import functools
import platform
import shutil
from collections.abc import Callable, Iterator, Sequence

from ulsam_deploy._version import __version__
from ulsam_deploy.device import plugins
from ulsam_deploy.device.commands.backends import MAKE, asked, engines, notes, running
from ulsam_deploy.device.commands.documents import Backend, DoctorDocument, Precision, Tool
from ulsam_deploy.device.errors import UlsamError
from ulsam_deploy.device.precisions import AUTO, CALIBRATED
from ulsam_deploy.device.third_party import installed
from ulsam_deploy.device.types import Availability
from ulsam_deploy.graph.interfaces import Exporter

CALIBRATION = "int8 and auto take ranges from inputs like the real ones: --calibration FILE.npz|DIR"
Question = tuple[str, str, Callable[[], Availability]]


def diagnosis() -> DoctorDocument:
    """Check everything that can be missing here, without importing any of it."""
    here = running()
    exporters = [_exporter(name, here) for name in plugins.registered(plugins.EXPORTERS)]
    tools = tuple(Tool(does, name, *asked(ask)) for does, name, ask in _questions())
    backends = (*exporters, *engines().values())
    return DoctorDocument(__version__, platform.python_version(), backends, tools, (CALIBRATION, *notes()))


def _exporter(name: str, running: set[str]) -> Backend:
    try:
        exporter: Exporter = plugins.load(plugins.EXPORTERS, name)
    except UlsamError as error:
        return Backend(MAKE, name, False, error.found, error.todo, ())
    found = [Precision(word, *asked(lambda word=word: exporter.available_in(word))) for word in exporter.precisions]  # type: ignore[misc]
    return Backend(MAKE, name, *asked(exporter.available), (*found, _auto(exporter, found, running)))


def _auto(exporter: Exporter, found: Sequence[Precision], running: set[str]) -> Precision:
    """The search for a precision makes artifacts and runs them, so it also needs the engine, and real inputs."""
    first = found[0]
    if not first.usable:
        return Precision(AUTO, False, first.detail, first.todo)
    if exporter.target not in running:
        return Precision(AUTO, False, "it runs artifacts, and no engine here can", f"see run {exporter.runtime}")
    choice = [one.name for one in found if one.usable]
    asks = "; needs --calibration" if set(exporter.precisions) & set(CALIBRATED) else ""
    return Precision(AUTO, True, f"chooses among {', '.join(choice)}{asks}", "")


def _questions() -> Iterator[Question]:
    """For each tool its purpose, its name, and the function that checks for it; nothing is checked yet."""
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
    """Every board with a profile, including the user's own."""
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
