"""``ulsam-deploy doctor``: what is installed, what is possible here, and what to install for the rest."""

from __future__ import annotations

import argparse
import platform

from ulsam_deploy import plugins
from ulsam_deploy._version import __version__
from ulsam_deploy.cache import cache_root
from ulsam_deploy.cli import words
from ulsam_deploy.contracts import Availability
from ulsam_deploy.errors import Exit, UlsamError


def run(arguments: argparse.Namespace) -> Exit:
    """Ask every exporter and runtime; always exit 0, because a missing backend is an answer here, not a failure."""
    if arguments.host:
        from ulsam_deploy.cli import verify_hosts

        return verify_hosts.doctor(arguments)
    found = [
        *(("make", name, _ask(plugins.EXPORTERS, name)) for name in plugins.registered(plugins.EXPORTERS)),
        *(("run", name, _ask(plugins.RUNTIMES, name)) for name in plugins.registered(plugins.RUNTIMES)),
    ]
    if arguments.json:
        backends = [
            {"does": does, "name": name, "usable": here.usable, "detail": here.detail, "todo": here.todo}
            for does, name, here in found
        ]
        words.print_json("doctor", {"version": __version__, "python": platform.python_version(), "backends": backends})
        return Exit.OK
    print(f"ulsam-deploy {__version__}, Python {platform.python_version()}, {platform.system()} {platform.machine()}")
    print(f"networks: {', '.join(plugins.registered(plugins.MODELS))}")
    print(f"cache: {cache_root()}\n")
    rows = [(does, name, "yes" if a.usable else "no", a.detail, a.todo) for does, name, a in found]
    words.print_table(("can it", "backend", "here", "found", "do this"), rows)
    return Exit.OK


def _ask(group: str, name: str) -> Availability:
    try:
        answer: Availability = plugins.load(group, name).available()
    except UlsamError as error:
        return Availability(False, error.found, error.todo)
    return answer
