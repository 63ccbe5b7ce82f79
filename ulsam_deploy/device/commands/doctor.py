"""``ulsam-deploy doctor``: what is installed, what is possible here, and what to install for the rest.

On a board, its engines and what they run; the host adds what it can make.
"""

from __future__ import annotations

import argparse
import platform
import sys
import sysconfig
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ulsam_deploy._version import __version__
from ulsam_deploy.device import codec, plugins
from ulsam_deploy.device.commands import words
from ulsam_deploy.device.errors import Exit, UlsamError
from ulsam_deploy.device.printing import say
from ulsam_deploy.device.runtime import Runtime
from ulsam_deploy.device.types import Availability

MAKE, RUN = "make", "run"
_COLUMNS = ("can it", "what", "precision", "here", "found", "do this")


@dataclass(frozen=True)
class Precision:
    """One precision of a backend: whether all that it needs is here, and what to do if not."""

    name: str
    usable: bool
    detail: str
    todo: str


@dataclass(frozen=True)
class Backend:
    """One exporter (``does`` is ``make``) or engine (``run``): whether it is usable here, and what to do if not.

    ``precisions``: each that it can make or run at all, with what this one needs besides.
    """

    does: str
    name: str
    usable: bool
    detail: str
    todo: str
    precisions: tuple[Precision, ...]


@dataclass(frozen=True)
class Tool:
    """Something besides that can be done where it is installed: emulation, reports, signing, sweeps, boards."""

    does: str
    name: str
    usable: bool
    detail: str
    todo: str


@dataclass(frozen=True)
class Doctor:
    """``doctor``: what is possible here. ``notes`` are about this Python as a whole."""

    version: str
    python: str
    backends: tuple[Backend, ...]
    tools: tuple[Tool, ...]
    notes: tuple[str, ...]


def run(arguments: argparse.Namespace) -> Exit:
    """Ask everything that can be missing; always exit 0, because what is missing is an answer here, not a failure."""
    return show(Doctor(__version__, platform.python_version(), tuple(engines().values()), (), notes()), arguments.json)


def show(found: Doctor, as_json: bool, *about: str) -> Exit:
    """Print ``found``, and ``about`` below the line about this machine."""
    if as_json:
        words.print_json("doctor", codec.encode(found, "doctor"))
        return Exit.OK
    say(f"ulsam-deploy {found.version}, Python {found.python}, {platform.system()} {platform.machine()}")
    for line in about:
        say(line)
    say("")
    words.print_table(_COLUMNS, [row for backend in found.backends for row in rows(backend)] + _tool_rows(found.tools))
    say("", f"Precisions possible here: {possible(found.backends) or 'none'}")
    for note in found.notes:
        say(f"note: {note}")
    return Exit.OK


def engines() -> dict[str, Backend]:
    """Every engine, by its name; nothing of it is imported."""
    return {name: _engine(name)[1] for name in plugins.registered(plugins.RUNTIMES)}


def running() -> set[str]:
    """The targets whose artifacts can be run here."""
    found = [_engine(name) for name in plugins.registered(plugins.RUNTIMES)]
    return {target for target, backend in found if backend.usable}


def rows(backend: Backend) -> list[tuple[str, ...]]:
    """A backend's lines of the table: precisions that need the same share one."""
    groups: dict[tuple[bool, str, str], list[str]] = {}
    for one in backend.precisions:
        groups.setdefault((one.usable, one.detail, one.todo), []).append(one.name)
    groups = groups or {(backend.usable, backend.detail, backend.todo): []}
    return [
        (backend.does, backend.name, ", ".join(names), "yes" if usable else "no", detail, todo)
        for (usable, detail, todo), names in groups.items()
    ]


def possible(backends: Sequence[Backend]) -> str:
    """The precisions that can be made here; on a board, where nothing is made, those that can be run."""
    does = MAKE if any(backend.does == MAKE for backend in backends) else RUN
    found = {b.name: [one.name for one in b.precisions if one.usable] for b in backends if b.does == does}
    return "; ".join(f"{name} {', '.join(names)}" for name, names in found.items() if names)


def notes() -> tuple[str, ...]:
    """What stands in the way of every advice to install something."""
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
    """An answer in every case: what is asked may itself need a package that is missing."""
    try:
        here = ask()
    except UlsamError as error:
        return False, error.found, error.todo
    except ModuleNotFoundError as error:
        return False, f"not installed: {error.name}", f"pip install {error.name}"
    return here.usable, here.detail, here.todo
