"""Writes every output file of a command, completely or not at all, and never over a file that this tool didn't write.

Standard library only; device-safe; POSIX. :meth:`Output.check` reports before the work starts what would make
:meth:`Output.write` fail after it.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shlex
import shutil
import stat
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from ulsam_deploy.device.bundle.kinds import Kind
from ulsam_deploy.device.bundle.manifest import MANIFEST
from ulsam_deploy.device.bundle.members import MAX_MANIFEST
from ulsam_deploy.device.data_files import opened
from ulsam_deploy.device.errors import ExportError, UsageError
from ulsam_deploy.device.files import scratch, staging, sync

__all__ = ["Output", "bundle_around", "check_folder", "check_outputs"]

#: Names of files that are already open: never replaced, whatever they refer to.
_OPEN = re.compile(r"/dev/(stdout|stderr|fd/\d+)|/proc/(self|\d+)/fd/\d+")
_BUNDLE = b"ulsam-deploy.bundle/"
#: Seconds in which somebody has to begin to read a pipe.
_PATIENCE = 10.0


@dataclass(frozen=True)
class Output:
    """A file to be written at ``path``. An existing file is replaced if this tool wrote it, or with ``force``.

    A device such as ``/dev/null`` or a pipe is written to, not replaced; a folder is never replaced, and nothing is
    ever written into a bundle.
    """

    path: Path
    kind: Kind
    force: bool = False
    executable: bool = False

    def check_place(self) -> None:
        """Raise :class:`UsageError` unless a file can be written there, regardless of an existing file."""
        found = self._state()
        if found and stat.S_ISDIR(found.st_mode):
            raise UsageError(f"'{self.path}' is a folder", expected=f"a file name for {self.kind.name}")
        if self.is_stream:
            return
        if found and not stat.S_ISREG(found.st_mode):
            raise UsageError(f"'{self.path}' is a special file", expected=f"a plain file for {self.kind.name}")
        folder = self.path.resolve().parent
        if not folder.is_dir():
            todo = f"mkdir -p {shlex.quote(str(self.path.parent))}"
            raise UsageError(
                f"the folder of '{self.path}' does not exist", expected="a folder that is there", todo=todo
            )
        check_folder(folder, f"'{self.path}'")

    def check(self) -> None:
        """Raise :class:`UsageError` now, before any work, for what :meth:`write` would refuse after it."""
        self.check_place()
        self._check_old(None)

    def write(self, data: bytes) -> Path:
        """Write ``data`` there, completely or not at all; returns the path.

        Raises :class:`UsageError` as :meth:`check` does, though not for a file with exactly this content, and
        :class:`ExportError` if writing fails; an existing file is unchanged then.
        """
        return self._write(lambda partial: partial.write_bytes(data), data)

    def fill(self, write: Callable[[Path], object]) -> Path:
        """As :meth:`write`, with the content that ``write`` writes to the path that it is given."""
        return self._write(write, None)

    def _write(self, write: Callable[[Path], object], data: bytes | None) -> Path:
        self.check_place()
        if self.is_stream:
            return self._pour(write)
        path = self.path.resolve()
        with _in_words(self.path), staging(path, folder=False) as partial:
            write(partial)
            partial.chmod(0o755 if self.executable else 0o644)
            sync(partial)
            self._check_old(data)
            partial.replace(path)
            sync(path.parent)
        return path

    def _pour(self, write: Callable[[Path], object]) -> Path:
        """Write to a device or a pipe: this can't be undone, so the content is complete before the first byte."""
        with _in_words(self.path), scratch() as folder:
            write(folder / "whole")
            sys.stdout.flush()  # keeps earlier output first
            with (folder / "whole").open("rb") as source, os.fdopen(_poured(self.path), "wb") as sink:
                shutil.copyfileobj(source, sink)
        return self.path

    def _state(self) -> os.stat_result | None:
        try:
            return self.path.stat()
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:  # ValueError: a NUL, which no name can have
            why = error.strerror if isinstance(error, OSError) else error
            raise UsageError(f"'{self.path}' can't be written: {why}", expected="a place that can be used") from error

    @property
    def is_stream(self) -> bool:
        """Whether it is a device, a pipe or a file that is already open: written to, and never replaced."""
        found = self._state()
        named = _OPEN.fullmatch(os.path.abspath(self.path)) is not None  # noqa: PTH100 - a link is not followed
        return found is not None and (named or stat.S_ISCHR(found.st_mode) or stat.S_ISFIFO(found.st_mode))

    def _check_old(self, data: bytes | None) -> None:
        """Raise :class:`UsageError` to keep an existing file. ``data`` is what would be written, if known."""
        found = self._state()
        if self.force or found is None or self.is_stream or found.st_size == 0:
            return
        try:
            with self.path.open("rb") as stream:
                if data is not None and found.st_size == len(data) and stream.read() == data:
                    return
                stream.seek(0)
                if self.kind.ours and self.kind.ours(stream) and os.access(self.path, os.W_OK):
                    return
        except OSError as error:
            raise UsageError(f"'{self.path}' can't be read: {error.strerror}", todo="choose another name") from error
        what = f"isn't {self.kind.name} that ulsam-deploy wrote" if self.kind.ours else "isn't replaced without --force"
        raise UsageError(
            f"'{self.path}' is there already, and {what}",
            expected="a new name" + (f", or {self.kind.name} of an earlier run" if self.kind.ours else ""),
            todo="choose another name, move it away, or replace it with --force",
        )


def check_outputs(outputs: Iterable[Output], apart_from: Path | None = None) -> None:
    """Check that each of ``outputs`` can be written, and that they differ and are outside of ``apart_from``.

    Args:
        outputs: The files that one command is going to write.
        apart_from: The bundle that it is going to write as well.

    Raises:
        UsageError: For the first one that can't be written.
    """
    taken = set[Path]()
    for output in outputs:
        output.check()
        path = output.path.resolve()
        if apart_from is not None and path.is_relative_to(apart_from.resolve()):
            raise UsageError(
                f"'{output.path}' would be inside the bundle '{apart_from}'", expected="a place outside the bundle"
            )
        if path in taken:
            raise UsageError(f"two files were to be written to '{output.path}'", expected="a name for each")
        if not output.is_stream:
            taken.add(path)


def check_folder(folder: Path, subject: str, todo: str = "choose another place") -> None:
    """Raise :class:`UsageError` unless a new file can be created in the existing ``folder``, outside of any bundle.

    ``subject`` is the name of the output in error messages, ``todo`` their advice.
    """
    bundle = bundle_around(folder)
    if bundle:
        raise UsageError(
            f"{subject} would be inside the bundle '{bundle}', which would then contain more than its manifest lists",
            expected="a place outside the bundle",
            todo=todo,
        )
    try:
        # Only a real file is a reliable test: permission bits say nothing about root, read-only mounts or quotas.
        with tempfile.TemporaryFile(dir=folder, buffering=0) as probe:
            probe.write(b"\0")
    except OSError as error:
        raise UsageError(
            f"{subject} can't be written to: {error.strerror} in '{folder}'",
            expected="a folder that can be written to",
            todo=todo,
        ) from error


def bundle_around(folder: Path) -> Path | None:
    """The bundle that ``folder`` is or is inside of, with links resolved; ``None`` if there is none."""
    real = folder.resolve()
    for place in (real, *real.parents):
        with contextlib.suppress(OSError), opened(place / MANIFEST) as stream:
            if _BUNDLE in stream.read(MAX_MANIFEST):
                return place
    return None


def _poured(path: Path) -> int:
    """Open the device or pipe ``path`` for writing; a pipe that nobody reads is not waited for endlessly."""
    until = time.monotonic() + _PATIENCE
    while True:
        try:
            handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_NONBLOCK)
            os.set_blocking(handle, True)
            return handle
        except OSError as error:
            if error.errno != errno.ENXIO:
                raise
            if time.monotonic() > until:
                raise OSError(errno.ENXIO, "nobody reads this pipe", str(path)) from error
        time.sleep(0.05)


@contextlib.contextmanager
def _in_words(path: Path) -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:  # the reader of the pipe has closed it, which is no error of this command
        raise
    except OSError as error:
        raise ExportError(
            f"'{path}' couldn't be written: {error.strerror or error}",
            todo="free some space, or choose another place; what was there is as it was",
        ) from error
