"""Handling of third-party tools: whether one is installed, its version, suppressing its output, passing on its errors.

Standard library only; device-safe. Nothing here imports the tool in question.
"""

from __future__ import annotations

import contextlib
import os
import re
import sys
import tempfile
import warnings
from collections.abc import Iterator
from importlib import import_module, metadata
from importlib.util import find_spec
from types import ModuleType
from typing import IO

from ulsam_deploy.device import invocation
from ulsam_deploy.device.errors import ToolError, UlsamError
from ulsam_deploy.device.types import Availability

#: The most characters of a tool's error message: those of native converters can be whole IR dumps.
MOST_WORDS = 600


def version(package: str) -> str:
    """The installed version of the distribution that contains ``package``, or an empty string if it is not recorded."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""


def versions(*packages: str) -> dict[str, str]:
    """Package to installed version, in the order given."""
    return {package: version(package) for package in packages}


def installed(*packages: str, extra: str = "", todo: str = "") -> Availability:
    """Check whether all ``packages`` can be imported, without importing them.

    Args:
        packages: Their import names.
        extra: The extra of ulsam-deploy that installs them on the host.
        todo: Advice to give instead of ``extra``, for engines: on a board there are no extras.

    Returns:
        The installed versions, or the missing names and what to do.
    """
    missing = [package for package in packages if find_spec(package) is None]
    if missing:
        found = f"not installed: {', '.join(missing)}"
        return Availability(False, found, todo or invocation.extra(extra))
    return Availability(True, ", ".join(f"{package} {version(package)}".strip() for package in packages))


def load_openvino() -> ModuleType:
    """``import openvino`` without its telemetry, which by default reports every import and conversion to its maker.

    The telemetry forks a process for each event and writes to the home folder. If its package can't be imported,
    OpenVINO (and NNCF) use their own stub that does nothing.
    """
    if "openvino" not in sys.modules:
        sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]  # None: "not to be imported"
    return import_module("openvino")


class words_of:  # noqa: N801 - a context manager; a class because it is in the timed region: half a microsecond
    """Convert whatever ``tool`` raises inside the block to an :class:`ExportError` with the tool's own message."""

    __slots__ = ("doing", "tool")

    def __init__(self, tool: str, doing: str) -> None:
        self.tool, self.doing = tool, doing

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if isinstance(error, Exception) and not isinstance(error, UlsamError):
            words = _words(str(error)) or type(error).__name__
            raise ToolError(f"{self.tool} could not {self.doing}: {words}") from error


@contextlib.contextmanager
def quiet(*ignored: str, telling: str = "error") -> Iterator[None]:
    """Suppress a tool's output to stdout and stderr, also from native code, and Python warnings that match ``ignored``.

    ``ignored`` are regular expressions for the start of a warning's message. The output is discarded unless the block
    fails: then its lines that match ``telling`` are added to the exception's text, because native tools often print the
    reason and raise something vague. Use it inside :func:`words_of`.
    """
    with tempfile.TemporaryFile() as log, warnings.catch_warnings():
        for message in ignored:
            warnings.filterwarnings("ignore", message=message)
        try:
            with _redirected(log):
                yield
        except UlsamError:
            raise
        except Exception as error:
            log.seek(0)
            said = [line for line in log.read().decode(errors="replace").splitlines() if re.search(telling, line, re.I)]
            raise RuntimeError("\n".join([str(error) or type(error).__name__, *said])) from error


@contextlib.contextmanager
def _redirected(log: IO[bytes]) -> Iterator[None]:
    """Point file descriptors 1 and 2 at ``log``: C++ libraries write there without asking Python.

    ``sys.stdout`` and ``sys.stderr`` as well, because they may be something else than 1 and 2, as in a notebook.
    """
    _flush()
    saved = {number: os.dup(number) for number in (1, 2)}
    try:
        for number in saved:
            os.dup2(log.fileno(), number)
        with (
            open(1, "w", closefd=False, errors="replace") as text,
            contextlib.redirect_stdout(text),
            contextlib.redirect_stderr(text),
        ):
            yield
    finally:
        _flush()
        for number, copy in saved.items():
            os.dup2(copy, number)
            os.close(copy)


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()


def _words(text: str) -> str:
    """``text`` without blank lines, terminal colours and local paths, cut to :data:`MOST_WORDS` characters."""
    plain = re.sub(r"\x1b\[[0-9;]*m", "", text)
    plain = re.sub(r"(?:/[\w.+-]+){2,}/([\w.+-]+)", r"\1", plain)
    short = "\n".join(line.strip() for line in plain.splitlines() if line.strip())
    return short if len(short) <= MOST_WORDS else short[:MOST_WORDS] + " ..."
