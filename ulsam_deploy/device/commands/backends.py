"""What ``doctor`` reports about backends, both on a board and on the host: engines, precisions, what is missing."""

from __future__ import annotations

import platform
import sys
import sysconfig
from collections.abc import Callable, Sequence
from pathlib import Path

from ulsam_deploy.device import plugins
from ulsam_deploy.device.commands.answer import Part, Table
from ulsam_deploy.device.commands.documents import Backend, DoctorDocument, Precision, Tool
from ulsam_deploy.device.errors import UlsamError
from ulsam_deploy.device.runtime import Runtime
from ulsam_deploy.device.types import Availability

__all__ = ["MAKE", "RUN", "asked", "engines", "notes", "possible", "rows", "running", "text"]

MAKE, RUN = "make", "run"
_COLUMNS = ("can it", "what", "precision", "here", "found", "do this")


def text(found: DoctorDocument, *about: str) -> list[Part]:
    """``found`` as text, with the lines ``about`` after the line about this machine."""
    table = Table(_COLUMNS, [row for backend in found.backends for row in rows(backend)] + _tool_rows(found.tools))
    return [
        f"ulsam-deploy {found.version}, Python {found.python}, {platform.system()} {platform.machine()}",
        *about,
        "",
        table,
        "",
        f"Precisions possible here: {possible(found.backends) or 'none'}",
        *(f"note: {note}" for note in found.notes),
    ]


def engines() -> dict[str, Backend]:
    """Every engine, by its name; none is imported."""
    return {name: _engine(name)[1] for name in plugins.registered(plugins.RUNTIMES)}


def running() -> set[str]:
    """The targets whose artifacts can be run here."""
    found = [_engine(name) for name in plugins.registered(plugins.RUNTIMES)]
    return {target for target, backend in found if backend.usable}


def rows(backend: Backend) -> list[tuple[str, ...]]:
    """A backend's rows of the table: precisions with the same requirements share one."""
    groups: dict[tuple[bool, str, str], list[str]] = {}
    for one in backend.precisions:
        groups.setdefault((one.usable, one.detail, one.todo), []).append(one.name)
    groups = groups or {(backend.usable, backend.detail, backend.todo): []}
    return [
        (backend.does, backend.name, ", ".join(names), "yes" if usable else "no", detail, todo)
        for (usable, detail, todo), names in groups.items()
    ]


def possible(backends: Sequence[Backend]) -> str:
    """The precisions that can be made here; on a board, which makes nothing, those that can be run."""
    does = MAKE if any(backend.does == MAKE for backend in backends) else RUN
    found = {b.name: [one.name for one in b.precisions if one.usable] for b in backends if b.does == does}
    return "; ".join(f"{name} {', '.join(names)}" for name, names in found.items() if names)


def notes() -> tuple[str, ...]:
    """Obstacles to any advice to install something."""
    if sys.prefix != sys.base_prefix or not Path(sysconfig.get_path("stdlib"), "EXTERNALLY-MANAGED").is_file():
        return ()
    return (
        "this Python belongs to the system, so pip installs nothing into it. Make an environment of your own, and use "
        "its Python and pip: python3 -m venv --system-site-packages env; env/bin/pip install ...",
    )


def _tool_rows(tools: Sequence[Tool]) -> list[tuple[str, ...]]:
    return [(tool.does, tool.name, "", "yes" if tool.usable else "no", tool.detail, tool.todo) for tool in tools]


def _engine(name: str) -> tuple[str, Backend]:
    """An engine, and the target whose artifacts it runs."""
    try:
        engine: type[Runtime] = plugins.load(plugins.RUNTIMES, name)
    except UlsamError as error:
        return "", Backend(RUN, name, False, error.found, error.todo, ())
    here = asked(engine.available)
    return engine.target, Backend(RUN, name, *here, tuple(Precision(word, *here) for word in engine.precisions))


def asked(ask: Callable[[], Availability]) -> tuple[bool, str, str]:
    """Call ``ask``, and also answer if that fails, because ``ask`` itself may need a package that is missing."""
    try:
        here = ask()
    except UlsamError as error:
        return False, error.found, error.todo
    except ModuleNotFoundError as error:
        return False, f"not installed: {error.name}", f"pip install {error.name}"
    return here.usable, here.detail, here.todo
