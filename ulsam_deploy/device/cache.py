"""A content-addressed cache of finished artifacts: the same checkpoint, options and tools are never exported twice.

Standard library only. A cache may lose entries at any time, but must never return wrong ones: an entry is hashed each
time it is read, and a damaged one counts as absent. The cache never raises an error to the user; a folder that can't be
used is a log line and a cache miss.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import importlib.util
import json
import logging
import os
import shutil
import stat
import weakref
from pathlib import Path
from typing import Any

from ulsam_deploy.device import codec, plugins
from ulsam_deploy.device.bundle.members import record_file, walk
from ulsam_deploy.device.errors import ExportError
from ulsam_deploy.device.files import staging, sweep

__all__ = ["BOARDS", "Cache", "cache_root", "key", "source_digest"]

_LOG = logging.getLogger(__name__)
_INDEX, _FILES = "index.json", "files"
#: Folder in the cache for the sysroots of emulated boards (``ulsam_deploy.boards.emulate.sysroot``), not an entry.
BOARDS = ".sysroots"
_CODE = (".py", ".toml", ".json")  # device profiles and tables affect artifacts as code does
_PACKAGES = ("ulsam_deploy", plugins.MODELS, plugins.EXPORTERS, plugins.RUNTIMES)


class Cache:
    """Folders by key, in ``root``; the least recently used ones are evicted when ``limit`` bytes are exceeded.

    A folder that :meth:`get` returned remains as long as this object exists, even if other processes evict entries.
    """

    def __init__(self, root: Path | None = None, *, limit: int = 2 << 30) -> None:
        self.root = cache_root() if root is None else Path(root)
        self.limit = limit
        self._held: dict[str, int] = {}  # key -> descriptor that holds a shared lock on the entry
        weakref.finalize(self, _close_all, self._held)

    def get(self, key: str) -> Path | None:
        """The folder put under ``key``, its files checked by SHA-256 just now, or ``None``; only ever copy from it."""
        entry = self.root / key
        try:
            if not entry.is_dir() or not self._trusted() or not self._hold(key):
                return None
            if _sound(entry):
                os.utime(entry)
                return entry / _FILES
            _LOG.warning("the cache entry %s is damaged; it is removed", entry)
            self.release(key)
            _evict(entry)
        except OSError as error:
            _LOG.warning("the cache %s can't be read: %s", self.root, error)
        return None

    def put(self, key: str, folder: Path) -> None:
        """Store a copy of ``folder`` under ``key``, unless there is an entry already."""
        try:
            self.root.mkdir(parents=True, exist_ok=True, mode=0o700)
            entry = self.root / key
            if not self._trusted() or entry.exists() or _size(folder) > self.limit:
                return
            sweep(self.root)
            with staging(entry) as partial:
                shutil.copytree(folder, partial / _FILES)
                (partial / _INDEX).write_text(codec.dumps(_index(partial / _FILES)))
                try:
                    partial.rename(entry)
                except OSError as error:
                    if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                        raise
                    return  # another run has just put the same entry
            self._trim(entry)
        except OSError as error:
            reason = error.strerror or "not every file could be copied"
            _LOG.warning("the cache %s can't be written: %s", self.root, reason)

    def held(self) -> tuple[int, int]:
        """The number of entries and their bytes."""
        entries = self._entries()
        return len(entries), sum(size for _, _, size in entries)

    def clear(self) -> tuple[int, int]:
        """Remove every entry that no run is using, and leftovers of dead runs; returns the number and their bytes."""
        if not self.root.is_dir():
            return 0, 0
        sweep(self.root)
        removed = [size for _, path, size in self._entries() if _evict(path)]
        return len(removed), sum(removed)

    def release(self, key: str) -> None:
        """Release an entry that :meth:`get` returned, so that it may be evicted."""
        lock = self._held.pop(key, None)
        if lock is not None:
            os.close(lock)

    def _hold(self, key: str) -> bool:
        """Lock the entry against eviction; returns false if it is being removed."""
        if key in self._held:
            return True
        try:
            lock = os.open(self.root / key, os.O_RDONLY | os.O_NOFOLLOW)
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
            present = os.path.samestat(os.fstat(lock), (self.root / key).stat())
        except (BlockingIOError, FileNotFoundError):
            present = False
        if present:
            self._held[key] = lock
        else:
            os.close(lock)
        return present

    def _trusted(self) -> bool:
        """Whether no other user can add entries; this matters because cache entries end up in bundles."""
        state, why = self.root.stat(), ""
        if state.st_mode & stat.S_IWOTH:
            why = "every user can write to it (chmod o-w)"
        elif state.st_uid != os.geteuid():
            why = "it belongs to another user"
        if why:
            _LOG.warning("the cache %s isn't used: %s", self.root, why)
        return not why

    def _trim(self, newest: Path) -> None:
        """Evict the least recently used entries until the rest fits; ``newest`` stays."""
        entries = self._entries()
        excess = sum(size for _, _, size in entries) - self.limit
        for _, path, size in sorted(entries):
            if excess > 0 and path != newest and _evict(path):
                excess -= size

    def _entries(self) -> list[tuple[int, Path, int]]:
        """When each entry was last used (ns), its folder and its bytes."""
        entries = []
        for path in self.root.iterdir() if self.root.is_dir() else ():
            with contextlib.suppress(FileNotFoundError):  # another run evicts at the same time
                if not path.name.startswith("."):
                    entries.append((path.stat().st_mtime_ns, path, _size(path)))
        return entries


def cache_root() -> Path:
    """``$ULSAM_DEPLOY_CACHE``, else the user's cache folder (``$XDG_CACHE_HOME`` or ``~/.cache``)."""
    chosen = os.environ.get("ULSAM_DEPLOY_CACHE")
    if chosen:
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "ulsam-deploy")


def key(*parts: object) -> str:
    """SHA-256 over the canonical JSON of ``parts``; raises :class:`ExportError` for a value outside of JSON."""
    plain = codec.encode(list(parts), "cache key")
    text = json.dumps(plain, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def _index(folder: Path) -> list[dict[str, Any]]:
    """Path, SHA-256 and size of every file below ``folder``; links and special files are listed without a hash."""
    return [
        codec.encode(record_file(folder, name), _INDEX) if entry.is_file(follow_symlinks=False) else {"path": name}
        for name, entry in walk(folder)
        if not entry.is_dir(follow_symlinks=False)
    ]


def _sound(entry: Path) -> bool:
    try:
        return (entry / _INDEX).read_text() == codec.dumps(_index(entry / _FILES))
    except (OSError, ValueError):  # ValueError: the index isn't even text
        return False


def _size(folder: Path) -> int:
    files = (entry for _, entry in walk(folder) if not entry.is_dir(follow_symlinks=False))
    return sum(entry.stat(follow_symlinks=False).st_size for entry in files)


def _evict(entry: Path) -> bool:
    """Remove an entry unless a process holds it; returns false in that case."""
    try:
        lock = os.open(entry, os.O_RDONLY | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(entry, ignore_errors=True)
        return True
    except OSError:
        return False
    finally:
        os.close(lock)


def _close_all(held: dict[str, int]) -> None:
    for lock in held.values():
        os.close(lock)
    held.clear()


def source_digest() -> str:
    """SHA-256 over the project's own code and the names and versions of every plug-in, importing none of them.

    It is part of each key: an entry made by another version of an exporter must not be found. Raises
    :class:`ExportError` if the code is not in files.
    """
    sha, count = hashlib.sha256(), 0
    for package in _PACKAGES:
        spec = importlib.util.find_spec(package)
        for folder in (spec.submodule_search_locations or ()) if spec else ():
            for path in sorted(p for p in Path(folder).rglob("*") if p.suffix in _CODE):
                name = f"{package}/{path.relative_to(folder).as_posix()}"
                count += 1
                sha.update(f"{name}\0{hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    if not count:
        raise ExportError("the project's own code is not in files here", todo="run with --no-cache")
    for group in (plugins.MODELS, plugins.EXPORTERS, plugins.RUNTIMES):
        for name, point in plugins.registered(group).items():
            origin = f"{point.dist.name} {point.dist.version}" if point.dist else ""
            sha.update(f"{group}\0{name}\0{point.value}\0{origin}\n".encode())
    return sha.hexdigest()
