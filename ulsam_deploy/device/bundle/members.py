"""Compares the members of a bundle on disk with its manifest: none may be extra, missing, a link or altered.

Standard library only; device-safe.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from ulsam_deploy.device.bundle.manifest import MANIFEST, SIGNATURE, FileRecord, Manifest
from ulsam_deploy.device.errors import RefusedError, UsageError
from ulsam_deploy.device.hashing import digest

__all__ = ["check_members", "load_manifest", "record_file", "walk"]

#: Far above any valid manifest (tens of kilobytes), far below the memory of a small board.
MAX_MANIFEST = 16 << 20
#: Far above a signature over the members of any real manifest.
MAX_SIGNATURE = 1 << 20
_REMEDY = "don't use this bundle; fetch it or export it again"


def record_file(root: Path, name: str) -> FileRecord:
    """The :class:`FileRecord` of the file ``name`` (with ``/``) under ``root``."""
    with (root / name).open("rb") as stream:
        sha256, size = digest(stream)
    return FileRecord(name, sha256, size)


def walk(root: Path) -> Iterator[tuple[str, os.DirEntry[str]]]:
    """Everything below ``root`` without following links: names with ``/``, folders before their contents."""
    pending = [(root, "")]
    while pending:
        folder, prefix = pending.pop()
        with os.scandir(folder) as entries:
            for entry in sorted(entries, key=lambda entry: entry.name):
                yield prefix + entry.name, entry
                if entry.is_dir(follow_symlinks=False):
                    pending.append((Path(entry.path), f"{prefix}{entry.name}/"))


def load_manifest(root: Path) -> tuple[Manifest, bytes]:
    """The manifest of the bundle folder ``root``, parsed and as stored.

    Raises :class:`UsageError` if there is none that can be read, :class:`RefusedError` if it isn't valid.
    """
    path = root / MANIFEST
    try:
        if not stat.S_ISREG(path.lstat().st_mode):
            raise RefusedError(f"{path} is a link or a special file", expected="a plain file", todo=_REMEDY)
        with path.open("rb") as stream:
            data = stream.read(MAX_MANIFEST + 1)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise UsageError(f"{root} has no {MANIFEST}", expected="a bundle that 'ulsam-export' made") from error
    except OSError as error:
        raise UsageError(f"{path} can't be read: {error.strerror}") from error
    if len(data) > MAX_MANIFEST:
        raise RefusedError(f"{path} is larger than {MAX_MANIFEST} bytes", todo=_REMEDY)
    return Manifest.from_json(data), data


def check_members(root: Path, manifest: Manifest, *, sealed: bool = True) -> None:
    """Compare the folder ``root`` with ``manifest``.

    Args:
        root: The bundle folder. It may contain a signature, which is not a member.
        manifest: The manifest of the bundle.
        sealed: Whether ``manifest.json`` must be there as well.

    Raises:
        RefusedError: Names the first member that is extra, missing, a link or special file, or of another size or
            SHA-256.
    """
    expected: dict[str, FileRecord | None] = {record.path: record for record in manifest.members()}
    if sealed:
        expected[MANIFEST] = None  # which can't hold its own hash
    folders = {name[:index] for name in expected for index, letter in enumerate(name) if letter == "/"}
    try:
        for name, entry in walk(root):
            if entry.is_dir(follow_symlinks=False) and name in folders:
                continue
            if name == SIGNATURE:
                _check_signature_file(entry.stat(follow_symlinks=False))
                continue
            if name not in expected:
                raise RefusedError(f"{name!a} is in the bundle but not in its manifest", todo=_REMEDY)
            _check_member(Path(entry.path), name, expected.pop(name))
    except OSError as error:
        raise RefusedError(f"the bundle {root} can't be read: {error}", todo=_REMEDY) from error
    if expected:
        raise RefusedError(f"the member {min(expected)!a} is missing from the bundle", todo=_REMEDY)


def _check_signature_file(state: os.stat_result) -> None:
    if not stat.S_ISREG(state.st_mode) or state.st_size > MAX_SIGNATURE:
        raise RefusedError(
            f"{SIGNATURE!a} is a link or a special file, or larger than {MAX_SIGNATURE} bytes", todo=_REMEDY
        )


def _check_member(path: Path, name: str, record: FileRecord | None) -> None:
    state = path.lstat()
    if not stat.S_ISREG(state.st_mode):
        raise RefusedError(f"the member {name!a} is a link, a folder or a special file", todo=_REMEDY)
    if record is None:
        return
    sha256, size = "", state.st_size
    if size == record.size:
        # Opened without following links: the file may have been replaced by a link since lstat.
        with open(os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0)), "rb") as stream:  # noqa: PTH123
            sha256, size = digest(stream, record.size)
    if size != record.size:
        raise RefusedError(f"the member {name!a} has {size} bytes", expected=f"{record.size} bytes", todo=_REMEDY)
    if sha256 != record.sha256:
        raise RefusedError(f"the member {name!a} has SHA-256 {sha256}", expected=record.sha256, todo=_REMEDY)
