"""Finds the wings by entry points: the core never imports a network, an exporter or a runtime by name.

Standard library only; device-safe. A third party adds a backend by declaring an entry point in one of the groups.
"""

from __future__ import annotations

from functools import cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

from ulsam_deploy._version import __version__
from ulsam_deploy.device.errors import UnavailableError
from ulsam_deploy.device.spelling import unknown

MODELS = "ulsam_deploy.models"
EXPORTERS = "ulsam_deploy.exporters"
RUNTIMES = "ulsam_deploy.runtimes"
_OWN = "ulsam-deploy"


@cache
def registered(group: str) -> dict[str, EntryPoint]:
    """Every entry point of ``group`` by name, in name order."""
    return {point.name: point for point in sorted(entry_points(group=group), key=lambda point: point.name)}


def load(group: str, name: str) -> Any:
    """Import the plug-in ``name`` of ``group``.

    Raises :class:`UsageError` if there is none of that name, :class:`UnavailableError` if it is not where its entry
    point says, or a package that it needs is not installed.
    """
    points = registered(group)
    if name not in points:
        kind = group.rsplit(".", 1)[1].rstrip("s")
        todo = "" if points else f"install ulsam-deploy: pip install '{_source()}'"
        raise unknown(f"no {kind} is called '{name}'", name, points, todo=todo)
    point = points[name]
    try:
        return point.load()
    except AttributeError as error:
        raise _lost(point) from error
    except ImportError as error:
        missing = error.name or ""
        if not isinstance(error, ModuleNotFoundError):
            raise UnavailableError(
                f"'{name}' of {_words(point)} cannot be imported: {error}",
                todo=f"install a version of it that fits ulsam-deploy {__version__}",
            ) from error
        if f"{point.module}.".startswith(f"{missing}."):
            raise _lost(point) from error
        raise UnavailableError(
            f"'{name}' needs the package '{missing}', which is not installed",
            todo=f"pip install '{_OWN}[export]'" if _is_own(point) else f"install what has '{missing}'",
        ) from error


def loaded(group: str) -> dict[str, Any]:
    """Every plug-in of ``group`` that can be imported, by name: a broken one must not affect the others.

    ``ulsam-deploy doctor`` says what is wrong with those that are omitted. Raises :class:`UnavailableError` if all of
    them are.
    """
    found: dict[str, Any] = {}
    errors: list[UnavailableError] = []
    for name in registered(group):
        try:
            found[name] = load(group, name)
        except UnavailableError as error:
            errors.append(error)
    if errors and not found:
        raise errors[0]
    return found


def _lost(point: EntryPoint) -> UnavailableError:
    """The error for an entry point without its object: usually, the installed version is not the one that runs."""
    if _is_own(point):
        return UnavailableError(
            f"the installed {_words(point)} announces '{point.name}' as {point.value}, which isn't in the ulsam-deploy "
            f"{__version__} that runs, from '{_source()}'",
            expected="one version, installed and run",
            todo=f"pip install '{_source()}'",
        )
    return UnavailableError(
        f"'{point.name}' is announced as {point.value} by {_words(point)}, and isn't there",
        todo=f"install {point.dist.name if point.dist else 'the package that announces it'} again",
    )


def _is_own(point: EntryPoint) -> bool:
    return point.dist is not None and point.dist.name == _OWN


def _words(point: EntryPoint) -> str:
    return f"{point.dist.name} {point.dist.version}" if point.dist else "package"


def _source() -> Path:
    """The folder that contains the running package; for a clone, the folder that pip can install."""
    return Path(__file__).parents[2]
