"""Reads an npz that a stranger may have made: arrays only, nothing that runs, no more than they may take.

Standard library and numpy; device-safe.
"""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path
from typing import IO

import numpy as np

from ulsam_deploy.device.arrays import Array

__all__ = ["DAMAGE", "MAX_BYTES", "read_arrays"]

MAX_BYTES = 2**31  # unpacked; a larger file is refused before anything is read

#: What damaged or hostile bytes can raise on the way through zip, zlib, npy, JSON and checks of what they say.
DAMAGE = (
    OSError, ValueError, ArithmeticError, LookupError, TypeError, AttributeError, EOFError, MemoryError,
    NotImplementedError, SyntaxError, RuntimeError, zipfile.BadZipFile, zlib.error,
)  # fmt: skip


def read_arrays(path: Path | IO[bytes]) -> dict[str, Array]:
    """Every array of the file by name; raises one of :data:`DAMAGE` for anything but a sound npz of plain arrays."""
    with zipfile.ZipFile(path) as archive:
        size = sum(info.file_size for info in archive.infolist())
    if size > MAX_BYTES:
        raise ValueError(f"it would unpack to {size} bytes, more than {MAX_BYTES}")
    if not isinstance(path, Path):
        path.seek(0)
    with np.load(path, allow_pickle=False) as file:
        return {name: file[name] for name in file.files}
