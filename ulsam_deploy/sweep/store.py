"""Stores a sweep's results in a local folder, or at any URL that fsspec supports (s3://, gs://, memory://, ...).

fsspec finds credentials in the environment of each process: a sweep's file contains none, and no task carries any.
"""

from __future__ import annotations

import contextlib
import io
import posixpath
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ulsam_deploy.device.bundle.kinds import Kind
from ulsam_deploy.device.errors import ExportError, UnavailableError, UsageError
from ulsam_deploy.device.files import scratch
from ulsam_deploy.device.third_party import installed


def is_url(place: str) -> bool:
    """Whether ``place`` is a URL rather than a path."""
    return "://" in place


class Store:
    """Small files by name below ``url``; each is complete or absent, even if a process dies while it writes one."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._fs, self._root = _filesystem(url)
        #: On storage without atomic writes, a file is written to a temporary name and then moved.
        self._moves = "file" in _protocols(self._fs)

    def read(self, name: str) -> bytes | None:
        """Read the file; ``None`` if there is none."""
        try:
            with _in_words(self.url):
                return bytes(self._fs.cat_file(self._path(name)))
        except FileNotFoundError:
            return None

    def write(self, name: str, data: bytes) -> None:
        """Write the file, replacing an older one."""
        path = self._path(name)
        with _in_words(self.url):
            self._fs.makedirs(posixpath.dirname(path), exist_ok=True)
            if not self._moves:
                self._fs.pipe_file(path, data)
                return
            partial = f"{path}.{uuid.uuid4().hex}.part"
            self._fs.pipe_file(partial, data)
            Path(partial).replace(path)

    def check(self, name: str, kind: Kind, *, force: bool) -> None:
        """Raise :class:`UsageError` unless :meth:`write` may replace what is there now by a file of ``kind``."""
        old = None if force else self.read(name)
        if old and not (kind.ours and kind.ours(io.BytesIO(old))):
            raise UsageError(
                f"'{self._path(name)}' is there already, and isn't {kind.name} that ulsam-deploy wrote",
                expected=f"no such file yet, or {kind.name} of an earlier run",
                todo="choose another folder with --output, move it away, or replace it with --force",
            )

    def names(self, folder: str) -> list[str]:
        """The names of all complete files in ``folder``, sorted."""
        try:
            with _in_words(self.url):
                found = self._fs.ls(self._path(folder), detail=False)
        except FileNotFoundError:
            return []
        return sorted(posixpath.basename(name) for name in found if not name.endswith(".part"))

    def _path(self, name: str) -> str:
        return posixpath.join(self._root, name)


@contextlib.contextmanager
def fetched(place: str) -> Iterator[Path]:
    """The file at ``place`` as a local file with the same name; for a URL, a temporary copy."""
    if not is_url(place):
        yield Path(place)
        return
    fs, path = _filesystem(place)
    with scratch() as folder:
        local = Path(folder, posixpath.basename(path))
        try:
            with _in_words(place), fs.open(path, "rb") as source, local.open("wb") as sink:
                shutil.copyfileobj(source, sink, 1 << 20)
        except FileNotFoundError as error:
            raise UsageError(f"there is no file '{place}'", expected="an existing file") from error
        yield local


def _filesystem(url: str) -> tuple[Any, str]:
    here = installed("fsspec", extra="export")
    if not here.usable:
        raise UnavailableError(f"a sweep needs fsspec: {here.detail}", todo=here.todo)
    import fsspec

    try:
        fs, root = fsspec.core.url_to_fs(url)
    except ImportError as error:
        raise UnavailableError(f"'{url}' needs another package: {error}", todo="install it beside fsspec") from error
    except ValueError as error:
        raise UsageError(f"'{url}' is not supported by fsspec: {error}", expected="a folder or a URL") from error
    return fs, str(root)


def _protocols(fs: Any) -> tuple[str, ...]:
    return (fs.protocol,) if isinstance(fs.protocol, str) else tuple(fs.protocol)


@contextlib.contextmanager
def _in_words(url: str) -> Iterator[None]:
    """Turn a storage's own errors into clear messages; a missing file stays a ``FileNotFoundError``."""
    try:
        yield
    except FileNotFoundError:
        raise
    except OSError as error:
        raise ExportError(
            f"'{url}' cannot be read or written: {error.strerror or error}",
            expected="a location that this user can read and write",
        ) from error
