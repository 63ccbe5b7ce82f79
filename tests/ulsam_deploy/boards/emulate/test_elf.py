"""Libraries are read as the loader reads them: held against this process's own, and against small ones made by hand."""

from __future__ import annotations

import ctypes
import re
import struct
from pathlib import Path

import pytest

from ulsam_deploy.boards.emulate.elf import Elf, alignment, libraries


@pytest.mark.parametrize("name", ["fopen", "qsort", "getenv"])
def test_a_function_is_found_where_the_dynamic_loader_put_it(name: str) -> None:
    address = ctypes.cast(getattr(ctypes.CDLL(None), name), ctypes.c_void_p).value
    assert address is not None
    for line in Path("/proc/self/maps").read_text().splitlines():
        match = re.match(r"([0-9a-f]+)-([0-9a-f]+) ..x. ([0-9a-f]+) \S+ \d+\s+(/.*)", line)
        if match and int(match[1], 16) <= address < int(match[2], 16):
            library = Elf(Path(match[4]))
            virtual = library.address(address - int(match[1], 16) + int(match[3], 16))
            assert virtual is not None
            assert name in library.function(virtual)  # libc has several names for one place
            return
    pytest.fail(f"{name} lies in no file")


def small_elf(path: Path, wide: bool, align: int = 4096) -> Path:
    """One mapped segment (file offset 0x40 at address 0x10040), and functions "first" (8 bytes) and "last" (size 0)."""
    names = b"\0first\0last\0"
    if wide:
        header, program, section, symbol = 64, "<IIQQQQQQ", "<IIQQQQIIQQ", "<IBBHQQ"
    else:
        header, program, section, symbol = 52, "<8I", "<10I", "<IIIBBH"
    programs = header
    sections = programs + struct.calcsize(program)
    strings = sections + 3 * struct.calcsize(section)
    symbols = strings + len(names)

    def entry(name: int, start: int, size: int) -> bytes:
        return (
            struct.pack(symbol, name, 2, 0, 1, start, size) if wide else struct.pack(symbol, name, start, size, 2, 0, 1)
        )

    table = entry(1, 0x10050, 8) + entry(7, 0x10060, 0)
    load = (
        (1, 5, 0x40, 0x10040, 0x10040, 0x100, 0x100, align) if wide else (1, 0x40, 0x10040, 0, 0x100, 0x100, 5, align)
    )
    listed = [(0,) * 10, (0, 2, 0, 0, symbols, len(table), 2, 0, 1, 24), (0, 3, 0, 0, strings, len(names), 0, 0, 1, 0)]
    head = b"\x7fELF" + bytes([2 if wide else 1, 1, 1]) + bytes(9)
    counts = (header, struct.calcsize(program), 1, struct.calcsize(section), 3, 2)
    head += struct.pack("<HHIQQQI6H" if wide else "<HHIIIII6H", 3, 183, 1, 0, programs, sections, 0, *counts)
    body = struct.pack(program, *load) + b"".join(struct.pack(section, *one) for one in listed)
    path.write_bytes(head + body + names + table)
    return path


@pytest.mark.parametrize("wide", [True, False])
def test_segments_and_symbols_of_both_widths(wide: bool, tmp_path: Path) -> None:
    library = Elf(small_elf(tmp_path / "lib.so", wide))
    assert library.address(0x48) == 0x10048
    assert library.address(0x1000) is None
    assert [library.function(at) for at in (0x1004F, 0x10050, 0x10057, 0x10058, 0x10061)] == [
        "",
        "first",
        "first",
        "",
        "last",
    ]


@pytest.mark.parametrize("wide", [True, False])
def test_alignment_is_the_smallest_of_what_is_mapped(wide: bool, tmp_path: Path) -> None:
    assert alignment(small_elf(tmp_path / "lib.so", wide, 1 << 16)) == 1 << 16


def test_what_is_no_library_is_said_to_be_none(tmp_path: Path) -> None:
    (tmp_path / "lib.so.1").write_bytes(b"\x7fELF\x02\x02" + bytes(64))  # big-endian
    with pytest.raises(ValueError, match="little-endian"):
        Elf(tmp_path / "lib.so.1")
    (tmp_path / "folder.so").mkdir()
    assert libraries(tmp_path) == [tmp_path / "lib.so.1"]
