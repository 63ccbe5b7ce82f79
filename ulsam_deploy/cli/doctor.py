"""``ulsam-deploy doctor`` on the host: engines as on a board, and what can be made, emulated, drawn and signed here."""

from __future__ import annotations

import argparse
import platform
from collections.abc import Sequence

from ulsam_deploy._version import __version__
from ulsam_deploy.cli import doctor_tools
from ulsam_deploy.device import plugins
from ulsam_deploy.device.cache import cache_root
from ulsam_deploy.device.commands.doctor import (
    MAKE,
    Backend,
    Doctor,
    Precision,
    Tool,
    asked,
    engines,
    notes,
    running,
    show,
)
from ulsam_deploy.device.errors import Exit, UlsamError
from ulsam_deploy.device.precisions import AUTO, CALIBRATED
from ulsam_deploy.graph.interfaces import Exporter

CALIBRATION = "int8 and auto take ranges from inputs like the real ones: --calibration FILE.npz|DIR"


def run(arguments: argparse.Namespace) -> Exit:
    """Ask everything that can be missing; always exit 0, because what is missing is an answer here, not a failure."""
    if arguments.host:
        from ulsam_deploy.cli import verify_hosts

        return verify_hosts.doctor(arguments)
    networks = ", ".join(plugins.registered(plugins.MODELS))
    return show(diagnosis(), arguments.json, f"networks: {networks}", f"cache: {cache_root()}")


def diagnosis() -> Doctor:
    """Everything that can be missing here, asked; nothing of it is imported."""
    here = running()
    exporters = [_exporter(name, here) for name in plugins.registered(plugins.EXPORTERS)]
    tools = tuple(Tool(does, name, *asked(ask)) for does, name, ask in doctor_tools.questions())
    backends = (*exporters, *engines().values())
    return Doctor(__version__, platform.python_version(), backends, tools, (CALIBRATION, *notes()))


def _exporter(name: str, running: set[str]) -> Backend:
    try:
        exporter: Exporter = plugins.load(plugins.EXPORTERS, name)
    except UlsamError as error:
        return Backend(MAKE, name, False, error.found, error.todo, ())
    found = [Precision(word, *asked(lambda word=word: exporter.available_in(word))) for word in exporter.precisions]  # type: ignore[misc]
    return Backend(MAKE, name, *asked(exporter.available), (*found, _auto(exporter, found, running)))


def _auto(exporter: Exporter, found: Sequence[Precision], running: set[str]) -> Precision:
    """A search makes artifacts, runs them and chooses: so it needs the engine as well, and real inputs."""
    first = found[0]
    if not first.usable:
        return Precision(AUTO, False, first.detail, first.todo)
    if exporter.target not in running:
        return Precision(AUTO, False, "it judges by running, and no engine here can", f"see run {exporter.runtime}")
    choice = [one.name for one in found if one.usable]
    asks = "; asks for --calibration" if set(exporter.precisions) & set(CALIBRATED) else ""
    return Precision(AUTO, True, f"chooses among {', '.join(choice)}{asks}", "")
