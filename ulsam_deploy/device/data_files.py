"""The one way to open a file that is only data: a regular file, of bounded size. Standard library only; device-safe.

A pipe never ends and a device such as ``/dev/zero`` never does either: a command that reads one hangs or takes all
memory. What may stand in place of a file is whatever somebody else put there.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import BinaryIO

__all__ = ["contents", "opened"]

_CHUNK = 1 << 20


def opened(path: Path) -> BinaryIO:
    """Open the regular file at ``path`` for reading bytes, without ever waiting for it; links are followed.

    Raises :class:`OSError`, whose ``strerror`` says in words what is there instead.
    """
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # a pipe without a writer would wait
    except ValueError as error:  # a NUL, which no name can have
        raise OSError(errno.EINVAL, str(error), str(path)) from error
    try:
        kind = os.fstat(handle).st_mode
        if stat.S_ISDIR(kind):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        if not stat.S_ISREG(kind):
            raise OSError(errno.ENODEV, "it is a pipe, a device or a socket, not a regular file", str(path))
        return os.fdopen(handle, "rb")
    except BaseException:
        os.close(handle)
        raise


def contents(path: Path, most: int) -> bytes:
    """The bytes of a regular file; raises :class:`OSError` as :func:`opened`, and for more than ``most`` bytes."""
    with opened(path) as stream:
        size = os.fstat(stream.fileno()).st_size
        data = stream.read(size + 1) if size <= most else b""  # a buffer for ``most`` could itself be too large
        while len(data) > size and len(data) <= most and (more := stream.read(_CHUNK)):  # one that grows, as in /proc
            data += more
    if size > most or len(data) > most:
        raise OSError(errno.EFBIG, f"it has more than {most} bytes, which no such file has", str(path))
    return data
