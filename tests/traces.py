"""What no shipped byte may hold: where and by whom it was made."""

from __future__ import annotations

import getpass
import socket
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]


def contents(root: Path) -> Iterator[tuple[str, bytes]]:
    """Every byte of a bundle by name; what is packed in an npz is unpacked."""
    for path in sorted(path for path in root.rglob("*") if path.is_file()):
        name = path.relative_to(root).as_posix()
        yield name, path.read_bytes()
        if path.suffix == ".npz":
            with zipfile.ZipFile(path) as archive:
                yield from ((f"{name}/{member}", archive.read(member)) for member in archive.namelist())


def traces(root: Path, *more: str) -> list[str]:
    """Paths of this machine, its name and its user's, as far as they are long enough to be no accident."""
    names = {getpass.getuser(), socket.gethostname(), *more}
    words = {
        str(ROOT),
        str(Path.cwd()),
        str(Path.home()),
        sys.prefix,
        sys.base_prefix,
        "site-packages",
        "/tmp/",
        "/home/",
    }
    words |= {f"/{name}" for name in names} | {name for name in names if len(name) > 5}
    return sorted({f"{word} in {name}" for name, data in contents(root) for word in words if word.encode() in data})
