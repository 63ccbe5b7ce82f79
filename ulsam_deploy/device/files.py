"""Atomic output: write under a temporary name next to the target, then move it into place in one step.

Standard library only; POSIX. A running writer holds a ``flock`` on its temporary folder. The kernel releases the lock
when the process dies, however it dies, so the next run can distinguish leftovers from another run's work. A process id
can't do that: containers that share a folder all have a process 1.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import secrets
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from ulsam_deploy.device.errors import ExportError

__all__ = ["install", "scratch", "staging", "sweep", "sync", "sync_tree"]

_AT_FDCWD, _RENAME_EXCHANGE = -100, 2
_OCCUPIED = (errno.ENOTEMPTY, errno.EEXIST)
_NO_EXCHANGE = (errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP)
#: How often a run may lose a race for the target's name; two runs lose at most once or twice each.
_ATTEMPTS = 20


@contextlib.contextmanager
def staging(target: Path, *, folder: bool = True) -> Iterator[Path]:
    """A new empty folder (or file) next to ``target`` that is removed afterwards, unless it was moved away.

    Leftovers of dead runs for the same target are removed first. Raises :class:`OSError`.
    """
    sweep(target.parent, target.name)
    made: list[Path] = []
    lock = -1
    try:
        lock = _create(target, folder, made)
        yield made[-1]
    finally:
        for path in made:
            try:
                _remove(path)
            except BaseException:  # a signal in the middle, after which it is removed all the same
                _remove(path)
                raise
        if lock >= 0:
            os.close(lock)


@contextlib.contextmanager
def scratch() -> Iterator[Path]:
    """A private empty folder among the system's temporary files, removed afterwards.

    Leftovers of killed runs are removed first: otherwise they would stay until the system restarts.
    """
    try:
        place = tempfile.gettempdir()
    except FileNotFoundError as error:
        raise ExportError(
            "there is no folder for temporary files", todo="set TMPDIR to a folder that can be written to"
        ) from error
    with staging(Path(place, "ulsam-deploy")) as folder:
        folder.chmod(0o700)
        yield folder


def sweep(parent: Path, name: str | None = None) -> None:
    """Remove leftovers of dead runs in ``parent`` (only for the target ``name``, if given), not those of running ones.

    A folder that a run had set aside when it died before moving the new one into place is put back.
    """
    pattern = re.compile(rf"\.({'.+' if name is None else re.escape(name)})\.(partial|old)-\d+-[0-9a-f]{{8}}")
    for path in sorted(parent.iterdir()):
        match = pattern.fullmatch(path.name)
        if match is None:
            continue
        if match[2] == "old" and not _put_back(path, parent / match[1]):
            continue
        with contextlib.suppress(OSError):
            lock = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                _remove(path)
            finally:
                os.close(lock)


def install(staged: Path, target: Path, check_old: Callable[[Path], None]) -> None:
    """Move the folder ``staged`` to ``target``; an old folder there is replaced atomically if the system supports it.

    ``check_old`` is called with ``target`` just before it is replaced, and raises to keep it. Afterwards ``staged`` may
    be the old folder, which the caller must remove. Raises :class:`OSError`, and :class:`ExportError` if other runs
    keep replacing ``target``.
    """
    for _ in range(_ATTEMPTS):
        with contextlib.suppress(FileNotFoundError):  # another run has just moved the target away: look again
            if _install_once(staged, target, check_old):
                sync(target.parent)
                return
        if not staged.exists():
            raise ExportError(f"the unfinished folder {staged} was removed while it was written", todo="run again")
    raise ExportError(f"other runs keep writing to {target}", todo="let one run finish, or choose another folder")


def sync(path: Path) -> None:
    """Flush the file or folder ``path`` to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sync_tree(root: Path) -> None:
    """Flush every file and folder below ``root``, and ``root`` itself, to the disk."""
    for folder, _, files in os.walk(root, topdown=False):
        for name in files:
            sync(Path(folder, name))
        sync(Path(folder))


def _install_once(staged: Path, target: Path, check_old: Callable[[Path], None]) -> bool:
    """One attempt; false if another run took the target's name meanwhile."""
    try:
        staged.rename(target)  # fails if the target is a folder that is not empty
        return True
    except OSError as error:
        if error.errno not in _OCCUPIED:
            raise
    check_old(target)
    return _exchange(staged, target) or _replace_in_two_steps(staged, target)


def _replace_in_two_steps(staged: Path, target: Path) -> bool:
    """Used if two names can't be exchanged; after a kill in between, the next :func:`sweep` restores the old folder."""
    aside = _fresh_name(target, "old")
    target.rename(aside)
    try:
        staged.rename(target)
    except BaseException as error:
        if _put_back(aside, target):
            _remove(aside)
        if isinstance(error, OSError) and error.errno in _OCCUPIED:
            return False
        raise
    _remove(aside)
    return True


def _put_back(aside: Path, target: Path) -> bool:
    """Rename ``aside`` back to ``target``; false if that failed and ``aside`` is the only copy, so it must be kept.

    True if it was done, or another run's folder has the name: then ``aside`` may be removed.
    """
    try:
        aside.rename(target)
    except FileNotFoundError:
        return False
    except OSError as error:
        return error.errno in _OCCUPIED
    return True


def _exchange(one: Path, other: Path) -> bool:
    """Swap two names in one step (Linux ``renameat2``); false if the system or file system can't."""
    import ctypes

    renameat2 = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if renameat2 is None:
        return False
    if renameat2(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE) == 0:
        return True
    code = ctypes.get_errno()
    if code in _NO_EXCHANGE:
        return False
    raise OSError(code, os.strerror(code), str(other))


def _create(target: Path, folder: bool, made: list[Path]) -> int:
    """Make a new path, the last of ``made``, and return its lock.

    A path is in ``made`` before it is there: a signal may come at any time. If the sweep of another run locks the new
    name first, another name is tried.
    """
    while True:
        path = _fresh_name(target, "partial")
        made.append(path)
        if folder:
            path.mkdir()
        else:
            path.touch(exist_ok=False)
        try:
            lock = os.open(path, os.O_RDONLY)
        except FileNotFoundError:
            continue
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
            if os.path.samestat(path.stat(), os.fstat(lock)):
                return lock
        except (BlockingIOError, FileNotFoundError):
            pass
        except OSError:  # a file system without locks: sweep can't lock there either, and removes nothing
            return lock
        os.close(lock)


def _fresh_name(target: Path, kind: str) -> Path:
    return target.with_name(f".{target.name}.{kind}-{os.getpid()}-{secrets.token_hex(4)}")


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):
            path.unlink()
