"""Whether this machine's processor computes int8 dot products without overflow, or needs weights of 7 bits."""

from __future__ import annotations

import functools
import platform
from pathlib import Path

#: What Linux calls the instructions that add int8 products in 32 bits on x86-64.
_EXACT = frozenset(["avx512_vnni", "avx_vnni"])
#: Where Linux describes the processor.
CPUINFO = Path("/proc/cpuinfo")
_X86 = ("x86_64", "amd64")


@functools.cache
def adds_pairs_in_16_bits() -> bool:
    """Whether engines add pairs of int8 products in 16 bits here, which overflows with weights of 8 bits.

    So does every x86-64 processor without VNNI, and one whose instructions are not known; no other processor.
    """
    if platform.machine().lower() not in _X86:
        return False
    try:
        lines = CPUINFO.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return True
    flags = next((line.partition(":")[2].split() for line in lines if line.startswith("flags")), [])
    return not _EXACT.intersection(flags)
