"""Packs a bundle into one ``.zip`` and unpacks it: packing is deterministic, and a hostile archive is refused.

Standard library only; device-safe. Members are stored, not compressed: weights hardly compress, the bytes don't depend
on the version of zlib, and an archive whose members may not be larger than itself can't be a zip bomb.
"""

from __future__ import annotations

import errno
import shutil
import stat
import struct
import zipfile
from pathlib import Path

from ulsam_deploy.device.bundle.manifest import MANIFEST, SIGNATURE, Manifest
from ulsam_deploy.device.bundle.members import MAX_MANIFEST, MAX_SIGNATURE, check_members
from ulsam_deploy.device.data_files import opened
from ulsam_deploy.device.errors import RefusedError, UsageError

__all__ = ["extract", "write_archive"]

_EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest date that a zip can store
_REMEDY = "fetch the archive again, or make it with 'ulsam-deploy pack'"
_LARGEST = {MANIFEST: MAX_MANIFEST, SIGNATURE: MAX_SIGNATURE}
#: What zipfile raises on damaged input, found by cutting and flipping bytes (see the tests).
_DAMAGE = (zipfile.BadZipFile, zipfile.LargeZipFile, NotImplementedError, RuntimeError, EOFError, ValueError,
           OverflowError, struct.error)  # fmt: skip


def write_archive(root: Path, manifest: Manifest, path: Path) -> None:
    """Write the bundle folder ``root`` to ``path``: the manifest, the signature if any, then the members by name."""
    names = [MANIFEST, *([SIGNATURE] if (root / SIGNATURE).is_file() else [])]
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name in [*names, *sorted(record.path for record in manifest.members())]:
            entry = zipfile.ZipInfo(name, _EPOCH)
            entry.create_system, entry.external_attr = 3, (stat.S_IFREG | 0o644) << 16
            entry.file_size = (root / name).stat().st_size  # lets zipfile choose zip64 where it is needed
            with (root / name).open("rb") as source, archive.open(entry, "w") as sink:
                shutil.copyfileobj(source, sink)


def extract(path: Path, folder: Path) -> Manifest:
    """Unpack the archive ``path`` into the existing empty ``folder`` and check every member.

    Raises :class:`RefusedError` naming a member that is extra, missing, repeated, a link, compressed, encrypted or
    altered; :class:`UsageError` if ``path`` can't be read. The caller must remove ``folder`` then.
    """
    try:
        with opened(path) as stream, zipfile.ZipFile(stream) as archive:
            entries = _entries(archive, path)
            manifest = Manifest.from_json(archive.read(entries[MANIFEST]))
            listed = {record.path for record in manifest.members()} | {MANIFEST}
            for name in sorted((entries.keys() ^ listed) - {SIGNATURE}):
                where = "archive but not in its manifest" if name in entries else "manifest but not in the archive"
                raise RefusedError(f"{path}: {name!a} is in the {where}", todo=_REMEDY)
            for name, entry in entries.items():  # from here on every name has passed the manifest's pattern
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                with archive.open(entry) as source, (folder / name).open("xb") as sink:
                    shutil.copyfileobj(source, sink)
    except (FileNotFoundError, IsADirectoryError, PermissionError) as error:
        raise UsageError(f"{path} can't be read: {error.strerror}") from error
    except (*_DAMAGE, OSError) as error:
        if isinstance(error, OSError) and error.errno != errno.EINVAL:  # EINVAL: an offset before the file's start
            raise
        raise RefusedError(f"{path} is a damaged archive: {error}", todo=_REMEDY) from error
    check_members(folder, manifest)
    return manifest


def _entries(archive: zipfile.ZipFile, path: Path) -> dict[str, zipfile.ZipInfo]:
    """The archive's entries by name; refuses any that is no plain stored file, and more bytes than the archive has."""
    entries: dict[str, zipfile.ZipInfo] = {}
    for entry in archive.infolist():
        kind = stat.S_IFMT(entry.external_attr >> 16)
        problem = ""
        if not entry.filename:
            problem = "has no name"
        elif entry.filename in entries:
            problem = "is there twice"
        elif entry.is_dir() or kind not in (0, stat.S_IFREG) or entry.filename != entry.orig_filename:
            problem = "is a link, a folder or a special file"
        elif entry.compress_type != zipfile.ZIP_STORED or entry.flag_bits & 0x1:
            problem = "is compressed or encrypted"
        elif entry.file_size > _LARGEST.get(entry.filename, entry.file_size):
            problem = f"is larger than {_LARGEST[entry.filename]} bytes"
        if problem:
            raise RefusedError(f"{path}: the entry {entry.filename!a} {problem}", todo=_REMEDY)
        entries[entry.filename] = entry
    if MANIFEST not in entries:
        raise RefusedError(f"{path} holds no {MANIFEST}", expected="an archive of a bundle", todo=_REMEDY)
    if sum(entry.file_size for entry in entries.values()) > path.stat().st_size:
        raise RefusedError(f"{path} declares more bytes than it has", todo=_REMEDY)
    return entries
