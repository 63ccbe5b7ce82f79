"""SHA-256 of files that are too large for memory.

Standard library only; device-safe.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import BinaryIO

from ulsam_deploy.device.data_files import opened

__all__ = ["digest", "digest_of"]

_CHUNK = 1 << 20


def digest(stream: BinaryIO, limit: int | None = None) -> tuple[str, int]:
    """Hash the rest of ``stream``.

    Args:
        stream: Open for reading bytes.
        limit: In bytes; at most one byte beyond it is read.

    Returns:
        SHA-256 in hexadecimal, and the number of bytes read.
    """
    sha, size = hashlib.sha256(), 0
    while limit is None or size <= limit:
        chunk = stream.read(_CHUNK if limit is None else min(_CHUNK, limit + 1 - size))
        if not chunk:
            break
        sha.update(chunk)
        size += len(chunk)
    return sha.hexdigest(), size


def digest_of(path: Path) -> str:
    """SHA-256 of the file at ``path``, in hexadecimal; raises :class:`OSError` where it cannot be read."""
    with opened(path) as stream:
        return digest(stream)[0]
