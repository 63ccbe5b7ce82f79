"""Living with other people's tools: is one installed, which version, keep it quiet, pass its words on.

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

from ulsam_deploy.device.errors import ToolError, UlsamError
from ulsam_deploy.device.types import Availability

#: Errors of native converters can be whole IR dumps; a person reads about this much.
MOST_WORDS = 600


def version(package: str) -> str:
    """The installed version of the distribution that holds ``package``, or an empty string where none is recorded."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""


def versions(*packages: str) -> dict[str, str]:
    """Package to installed version, in the order given."""
    return {package: version(package) for package in packages}


def installed(*packages: str, extra: str = "", todo: str = "") -> Availability:
    """Whether all ``packages`` can be imported; none of them is.

    Args:
        packages: Names as they are imported.
        extra: What brings them on the host: an extra of ulsam-deploy.
        todo: What to do instead. An engine's: it may be missing on a board, where there are no extras.

    Returns:
        The installed versions, or the missing names and what to do.
    """
    missing = [package for package in packages if find_spec(package) is None]
    if missing:
        found = f"not installed: {', '.join(missing)}"
        return Availability(False, found, todo or f"pip install 'ulsam-deploy[{extra}]'")
    return Availability(True, ", ".join(f"{package} {version(package)}".strip() for package in packages))


def load_openvino() -> ModuleType:
    """``import openvino`` without its telemetry, which by default reports every import and conversion to its maker.

    It forks a process an event to do so and writes to the home folder. Without the package that sends, OpenVINO (and
    NNCF) use their own stand-in that does nothing.
    """
    if "openvino" not in sys.modules:
        sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]  # None: "not to be imported"
    return import_module("openvino")


class words_of:  # noqa: N801 - a context manager; a class because it stands in the timed region: half a microsecond
    """Turn whatever ``tool`` raises inside the block into an :class:`ExportError` with the tool's own words."""

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
def quiet(*ignored: str) -> Iterator[None]:
    """Keep a tool's chatter off stdout and stderr, native code's too, and drop Python warnings that match ``ignored``.

    ``ignored`` are regular expressions for the start of a warning's message. What was said is thrown away unless the
    block fails: then its lines about errors are added to the exception's text, since native tools often print the
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
            said = [line for line in log.read().decode(errors="replace").splitlines() if "error" in line.lower()]
            raise RuntimeError("\n".join([str(error) or type(error).__name__, *said])) from error


@contextlib.contextmanager
def _redirected(log: IO[bytes]) -> Iterator[None]:
    """Point file descriptors 1 and 2 at ``log``: C++ libraries write there without asking Python.

    ``sys.stdout`` and ``sys.stderr`` as well, for they need not be those two, as in a notebook.
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
    """``text`` without blank lines, terminal colours and folders of this machine, cut to what a person reads."""
    plain = re.sub(r"\x1b\[[0-9;]*m", "", text)
    plain = re.sub(r"(?:/[\w.+-]+){2,}/([\w.+-]+)", r"\1", plain)
    short = "\n".join(line.strip() for line in plain.splitlines() if line.strip())
    return short if len(short) <= MOST_WORDS else short[:MOST_WORDS] + " ..."
