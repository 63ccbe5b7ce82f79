"""Just enough of ELF: the alignment of a library, and the function at an address. Standard library only.

Layout: "System V Application Binary Interface", chapters 4 and 5, and ``elf.h``; little-endian, 32 and 64 bits.
"""

from __future__ import annotations

import bisect
import mmap
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

__all__ = ["Elf", "alignment", "libraries"]

_LOAD, _SYMTAB, _DYNSYM, _FUNCTION = 1, 2, 11, 2


@dataclass(frozen=True)
class Segment:
    """A part of the file that is mapped: file offset, virtual address, size in the file, alignment (all bytes)."""

    offset: int
    address: int
    size: int
    align: int


class Elf:
    """One library or program. Raises :class:`ValueError` for what isn't little-endian ELF."""

    def __init__(self, path: Path) -> None:
        with path.open("rb") as stream:
            self._data = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
        if self._data[:4] != b"\x7fELF" or self._data[5:6] != b"\x01":
            raise ValueError(f"{path.name} isn't a little-endian ELF file")
        self._wide = self._data[4] == 2

    @cached_property
    def segments(self) -> tuple[Segment, ...]:
        """What the loader maps."""
        if self._wide:
            (start,), (size, count) = (
                struct.unpack_from("<Q", self._data, 32),
                struct.unpack_from("<HH", self._data, 54),
            )
        else:
            (start,), (size, count) = (
                struct.unpack_from("<I", self._data, 28),
                struct.unpack_from("<HH", self._data, 42),
            )
        return tuple(self._segments(start, size, count))

    def _segments(self, start: int, size: int, count: int) -> Iterator[Segment]:
        for index in range(count):
            at = start + index * size
            if self._wide:
                kind, _, offset, address, _, length, _, align = struct.unpack_from("<IIQQQQQQ", self._data, at)
            else:
                kind, offset, address, _, length, _, _, align = struct.unpack_from("<8I", self._data, at)
            if kind == _LOAD:
                yield Segment(offset, address, length, align)

    def address(self, offset: int) -> int | None:
        """The virtual address of an offset in the file; ``None`` if it isn't mapped."""
        for segment in self.segments:
            if segment.offset <= offset < segment.offset + segment.size:
                return segment.address + offset - segment.offset
        return None

    def function(self, address: int) -> str:
        """The name of the function at a virtual address, by the largest symbol table; empty if it has none."""
        starts, ends, names = self._functions
        index = bisect.bisect_right(starts, address) - 1
        return names[index] if index >= 0 and address < ends[index] else ""

    @cached_property
    def _functions(self) -> tuple[list[int], list[int], list[str]]:
        """Start, end and name, by start. A function of unknown size (assembly) ends where the next one starts."""
        found = sorted(set(self._symbols()))
        starts = [start for start, _, _ in found]
        following = [*starts[1:], starts[-1] + (1 << 20)] if starts else []
        ends = [start + size if size else after for (start, size, _), after in zip(found, following)]
        return starts, ends, [name for _, _, name in found]

    def _symbols(self) -> Iterator[tuple[int, int, str]]:
        sections = list(self._sections())
        tables = {kind: (offset, size, link) for kind, offset, size, link in sections if kind in (_SYMTAB, _DYNSYM)}
        if not tables:
            return
        offset, size, link = tables.get(_SYMTAB) or tables[_DYNSYM]
        names = sections[link][1]
        form = struct.Struct("<IBBHQQ" if self._wide else "<IIIBBH")
        for fields in form.iter_unpack(self._data[offset : offset + size // form.size * form.size]):
            name, info, where, start, length = (
                (fields[0], fields[1], fields[3], fields[4], fields[5])
                if self._wide
                else (fields[0], fields[3], fields[5], fields[1] & ~1, fields[2])  # the lowest bit says "Thumb"
            )
            if info & 15 == _FUNCTION and where:
                yield start, length, self._text(names + name)

    def _sections(self) -> Iterator[tuple[int, int, int, int]]:
        """Kind, file offset, size and linked section of every section."""
        if self._wide:
            (start,), (size, count) = (
                struct.unpack_from("<Q", self._data, 40),
                struct.unpack_from("<HH", self._data, 58),
            )
        else:
            (start,), (size, count) = (
                struct.unpack_from("<I", self._data, 32),
                struct.unpack_from("<HH", self._data, 46),
            )
        form = "<IIQQQQI" if self._wide else "<7I"
        for index in range(count):
            _, kind, _, _, offset, length, link = struct.unpack_from(form, self._data, start + index * size)
            yield kind, offset, length, link

    def _text(self, offset: int) -> str:
        return self._data[offset : self._data.find(b"\0", offset)].decode(errors="replace")


def libraries(folder: Path) -> list[Path]:
    """Every shared library below ``folder``, in name order."""
    return sorted(path for path in folder.rglob("*.so*") if path.is_file())


def alignment(path: Path) -> int:
    """The smallest alignment of what is mapped, in bytes."""
    return min((segment.align for segment in Elf(path).segments), default=1 << 30)
