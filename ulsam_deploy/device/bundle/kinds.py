"""The kinds of file that commands write, and how each is recognized by its content.

Standard library only; device-safe. A recognized file was written by this tool, and the next run may replace it. Files
that people continue to work on (a checkpoint, a configuration file) are never recognized as such.
"""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from typing import BinaryIO

from ulsam_deploy.device.bundle.manifest import MANIFEST

__all__ = [
    "ARCHIVE",
    "CHECKPOINT",
    "CONFIG",
    "ENGINE",
    "JUNIT",
    "MARKDOWN",
    "PAGE",
    "RESULT",
    "RUNNER",
    "SARIF",
    "SWEEP",
    "Kind",
]

#: Bytes in which a mark is searched for; far more than the head of any such file.
_HEAD = 1 << 13
#: Far larger than any valid manifest, and larger than a 'bench' result of a day with the fastest network.
_MOST_JSON = 1 << 30
#: How a report and a job summary name the tool that wrote them.
GENERATOR = "ulsam-deploy"
SARIF_SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"
MARKDOWN_MARK = f"<!-- written by {GENERATOR} -->"


@dataclass(frozen=True)
class Kind:
    """One kind of file: its name, and ``ours``, which decides whether an existing file was written by this tool.

    ``ours`` is ``None`` for kinds of file that a user may have edited since.
    """

    name: str
    ours: Callable[[BinaryIO], bool] | None = None


def _json(schema: str) -> Callable[[BinaryIO], bool]:
    def ours(stream: BinaryIO) -> bool:
        try:
            found = json.loads(stream.read(_MOST_JSON))
        except (ValueError, RecursionError):
            return False
        said = found.get("schema") if isinstance(found, dict) else None
        return isinstance(said, str) and said.startswith(f"{schema}/")

    return ours


def _head(pattern: str) -> Callable[[BinaryIO], bool]:
    return lambda stream: re.search(pattern.encode(), stream.read(_HEAD)) is not None


def _zip(member: str, ours: Callable[[BinaryIO], bool]) -> Callable[[BinaryIO], bool]:
    """Recognize a zip by its ``member``, for which ``ours`` must hold."""

    def found(stream: BinaryIO) -> bool:
        try:
            with zipfile.ZipFile(stream) as archive, archive.open(member) as inner:
                return ours(inner)  # type: ignore[arg-type]
        except (zipfile.BadZipFile, KeyError, NotImplementedError, RuntimeError, EOFError, ValueError, OSError):
            return False

    return found


ARCHIVE = Kind("a packed bundle", _zip(MANIFEST, _json("ulsam-deploy.bundle")))
RUNNER = Kind("a device runner", _zip("ulsam_deploy/device/commands/on_device.py", lambda _: True))
RESULT = Kind("a result of bench", _json("ulsam-deploy.bench"))
SWEEP = Kind("a sweep's table", _json("ulsam-deploy.sweep"))
PAGE = Kind("a report", _head(rf'<meta name="generator" content="{GENERATOR}[ "]'))
JUNIT = Kind("a JUnit file", _head(rf'<testsuites\b[^>]*\sname="{GENERATOR}"'))
SARIF = Kind("a SARIF file", _head(rf'"{re.escape(SARIF_SCHEMA)}"[^\[]*\[[^\[]*"name": "{GENERATOR}"'))
MARKDOWN = Kind("a job summary", _head(f"^{re.escape(MARKDOWN_MARK)}"))
ENGINE = Kind("an engine")
CHECKPOINT = Kind("a checkpoint")
CONFIG = Kind("a file of words")
