"""Writes ``runner.pyz``: the device-safe part of this very package as one file that a board's own Python runs.

There is no second copy of the code: the file contains the whole folder ``device`` and the runtimes. It also contains
``entry_points.txt``, like an installed package, so that :mod:`ulsam_deploy.device.plugins` finds the runtimes of this
project and of third parties as usual.
"""

from __future__ import annotations

import io
import zipfile
from importlib.util import find_spec
from pathlib import Path

from ulsam_deploy._version import __version__
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
from ulsam_deploy.device.commands.on_device import main

sys.exit(main())
"""
#: Modules of the package's root that are included, and runtimes that are not.
_ROOT, _HOST_ONLY = ("__init__", "_version"), ("pytorch",)
_DATE = (1980, 1, 1, 0, 0, 0)


def write_runner(path: Path, *, force: bool = False) -> Path:
    """Write the runner to ``path``, executable, completely or not at all.

    Raises :class:`UsageError` if another file is there and ``force`` isn't given, :class:`ExportError` if the disk
    fails.
    """
    output = Output(path, RUNNER, force, executable=True)
    output.check()
    return output.write(runner_bytes())


def runner_bytes() -> bytes:
    """The runner: a zip that Python runs. It is deterministic on any machine, because nothing is compressed."""
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
    """The files for :mod:`importlib.metadata`: name, version and the included runtimes; and the boards' identities."""
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
    """Source files by path in the zip: the package's root modules, ``device`` and the runtimes."""
    folders = {
        "ulsam_deploy/device": _folder("ulsam_deploy.device"),
        "ulsam_deploy/runtimes": _folder(plugins.RUNTIMES),
    }
    found = {f"ulsam_deploy/{name}.py": (_folder("ulsam_deploy") / f"{name}.py").read_bytes() for name in _ROOT}
    for place, folder in folders.items():
        for path in folder.rglob("*.py"):
            if path.stem not in _HOST_ONLY:
                found[f"{place}/{path.relative_to(folder).as_posix()}"] = path.read_bytes()
    return found


def _folder(package: str) -> Path:
    """The folder of the source of ``package``; raises :class:`ExportError` if it is not in a folder."""
    spec = find_spec(package)
    if spec is None or not spec.has_location or not Path(str(spec.origin)).is_file():
        raise ExportError(f"the source of {package} is not in a folder here", todo="install ulsam-deploy with pip")
    return Path(str(spec.origin)).parent
