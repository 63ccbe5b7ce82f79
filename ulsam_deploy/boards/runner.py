"""Writes ``runner.pyz``: the device-safe part of this very package as one file that a board's own Python runs.

Nothing is copied in the repository: the modules are found here and now, starting from the commands and following the
imports at their tops. The zip carries ``entry_points.txt`` as an installed package does, so that
:mod:`ulsam_deploy.device.plugins` finds the runtimes, ours and a third party's, in the one way it knows.
"""

from __future__ import annotations

import ast
import io
import zipfile
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

from ulsam_deploy._version import __version__
from ulsam_deploy.cli.on_device import COMMANDS
from ulsam_deploy.device import codec, plugins
from ulsam_deploy.device.bench.identity import Identities
from ulsam_deploy.device.bundle.kinds import RUNNER
from ulsam_deploy.device.bundle.output import Output
from ulsam_deploy.device.errors import ExportError
from ulsam_deploy.device.profiles import identities
from ulsam_deploy.device.this_machine import IDENTITIES

__all__ = ["runner_bytes", "write_runner"]

_MAIN = """\
import sys

if sys.version_info < (3, 10):
    sys.exit("error: Python %d.%d is too old: the runner needs 3.10 or newer" % sys.version_info[:2])
from ulsam_deploy.cli.on_device import main

sys.exit(main())
"""
#: What is reached by name at run time, and so by no import.
_ROOTS = (
    "ulsam_deploy.cli.on_device",
    "ulsam_deploy.cli",
    "ulsam_deploy.cli.parser",
    "ulsam_deploy.device.verify_job",
    *(f"ulsam_deploy.cli.{name}" for name in COMMANDS),
    *(f"ulsam_deploy.cli.parsers.{name}" for name in COMMANDS),
)
_HOST_ONLY = ("pytorch",)
_DATE = (1980, 1, 1, 0, 0, 0)


def write_runner(path: Path, *, force: bool = False) -> Path:
    """Write the runner to ``path``, executable, whole or not at all.

    Raises :class:`UsageError` when something else lies there and ``force`` isn't given, :class:`ExportError` when the
    disk fails.
    """
    output = Output(path, RUNNER, force, executable=True)
    output.check()
    return output.write(runner_bytes())


def runner_bytes() -> bytes:
    """The runner: a zip that Python runs. The same code gives the same bytes anywhere: nothing is compressed."""
    members = {**_information(), **_modules(), "__main__.py": _MAIN.encode()}
    stream = io.BytesIO()
    stream.write(b"#!/usr/bin/env python3\n")
    with zipfile.ZipFile(stream, "a", zipfile.ZIP_STORED) as archive:
        for name in sorted(members):
            entry = zipfile.ZipInfo(name, _DATE)
            entry.create_system, entry.external_attr = 3, 0o644 << 16
            archive.writestr(entry, members[name])
    return stream.getvalue()


def _information() -> dict[str, bytes]:
    """What :mod:`importlib.metadata` reads: name, version, the runtimes that travel, and what identifies boards."""
    own = {name: point.value for name, point in plugins.registered(plugins.RUNTIMES).items() if _travels(point.value)}
    points = "".join(f"{name} = {place}\n" for name, place in own.items())
    folder = f"ulsam_deploy-{__version__}.dist-info"
    return {
        f"{folder}/METADATA": f"Metadata-Version: 2.1\nName: ulsam-deploy\nVersion: {__version__}\n".encode(),
        f"{folder}/entry_points.txt": f"[{plugins.RUNTIMES}]\n{points}".encode(),
        f"{folder}/{IDENTITIES}": codec.dumps(codec.encode(Identities(identities()), IDENTITIES)).encode(),
    }


def _travels(place: str) -> bool:
    module = place.partition(":")[0]
    return module.startswith(f"{plugins.RUNTIMES}.") and module.rpartition(".")[2] not in _HOST_ONLY


def _modules() -> dict[str, bytes]:
    """Source by its path in the zip: the roots, the runtimes, and whatever those import at their tops."""
    runtimes = _source(plugins.RUNTIMES)
    stems = sorted(path.stem for path in runtimes.parent.glob("*.py")) if runtimes else []
    waiting = [*_ROOTS, *(f"{plugins.RUNTIMES}.{stem}" for stem in stems if stem not in (*_HOST_ONLY, "__init__"))]
    seen: set[str] = set()
    found: dict[str, bytes] = {}
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        if "." in name:
            waiting.append(name.rpartition(".")[0])
        source = _source(name)
        if source:
            package = "/__init__" if source.name == "__init__.py" else ""
            found[name.replace(".", "/") + f"{package}.py"] = source.read_bytes()
            waiting += _imports(source, name if package else name.rpartition(".")[0])
    return found


def _source(name: str) -> Path | None:
    """Where the module ``name`` lies; ``None`` where that is no module but, say, a function inside one."""
    try:
        spec = find_spec(name)
    except ModuleNotFoundError:  # its parent is no package
        return None
    if spec is None:
        return None
    if not spec.has_location or not Path(str(spec.origin)).is_file():
        raise ExportError(f"the source of {name} doesn't lie in a file here", todo="install ulsam-deploy with pip")
    return Path(str(spec.origin))


def _imports(source: Path, package: str) -> Iterator[str]:
    """Every name of this package that ``source`` imports outside functions and ``if TYPE_CHECKING``."""
    waiting: list[ast.AST] = [ast.parse(source.read_bytes())]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            parent = ".".join(filter(None, [package if node.level else "", node.module]))
            names = [parent, *(f"{parent}.{alias.name}" for alias in node.names)]
        else:
            hidden = isinstance(node, ast.FunctionDef) or (isinstance(node, ast.If) and _for_types(node))
            waiting += [] if hidden else ast.iter_child_nodes(node)
            continue
        yield from (name for name in names if name.partition(".")[0] == "ulsam_deploy")


def _for_types(node: ast.If) -> bool:
    return isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
