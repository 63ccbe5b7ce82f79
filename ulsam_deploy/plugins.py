"""Finds the wings by entry points: the core never imports a network, an exporter or a runtime by name.

Standard library only; device-safe. A third party adds a backend by declaring an entry point in one of the groups.
"""

from __future__ import annotations

from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from ulsam_deploy.errors import UnavailableError
from ulsam_deploy.spelling import unknown

MODELS = "ulsam_deploy.models"
EXPORTERS = "ulsam_deploy.exporters"
RUNTIMES = "ulsam_deploy.runtimes"


@cache
def registered(group: str) -> dict[str, EntryPoint]:
    """Every entry point of ``group`` by name, in name order."""
    return {point.name: point for point in sorted(entry_points(group=group), key=lambda point: point.name)}


def load(group: str, name: str) -> Any:
    """Import the plug-in ``name`` of ``group``.

    Raises :class:`UsageError` when there is none of that name, :class:`UnavailableError` when a package that it
    needs is not installed.
    """
    points = registered(group)
    if name not in points:
        kind = group.rsplit(".", 1)[1].rstrip("s")
        expected = ", ".join(points) or "an installed plug-in"
        raise unknown(f"no {kind} is called '{name}'", name, points, expected=expected)
    try:
        return points[name].load()
    except ModuleNotFoundError as error:
        raise UnavailableError(
            f"'{name}' needs the package '{error.name}', which is not installed",
            todo="run 'ulsam-deploy doctor' to see what to install",
        ) from error
