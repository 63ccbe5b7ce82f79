"""The program inside the emulated board: checks its processor, then runs one artifact with the device runner's code.

Run as ``python3 guest.py`` in the folder of a job (:mod:`ulsam_deploy.device.elsewhere.job`). It imports the standard
library and, from the runner, device-safe modules only. Nothing is timed: time under emulation says nothing about the
board.
"""

from __future__ import annotations

import ctypes
import gc
import mmap
import os
import platform
import re
import struct
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from ulsam_deploy.device import verify as evidence
from ulsam_deploy.device.bundle import ArtifactRecord, Bundle, Evidence, read_bundle
from ulsam_deploy.device.elsewhere import job
from ulsam_deploy.device.engines import runtime_for
from ulsam_deploy.device.errors import UnavailableError, UsageError
from ulsam_deploy.device.findings import EngineFacts
from ulsam_deploy.device.parity import Golden

#: The name of this module on the host.
NAME = "ulsam_deploy.boards.emulate.guest"
#: Linux's names for the bits of AT_HWCAP and AT_HWCAP2 (``arch/arm64/kernel/cpuinfo.c``).
_HWCAP = (
    "fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm jscvt fcma lrcpc dcpop sha3 sm3 "
    "sm4 asimddp sha512 sve asimdfhm dit uscat ilrcpc flagm ssbs sb paca pacg"
)
_HWCAP2 = (
    "dcpodp sve2 sveaes svepmull svebitperm svesha3 svesm4 flagm2 frint svei8mm svef32mm svef64mm svebf16 i8mm bf16"
)
HWCAP, HWCAP2 = _HWCAP.split(), _HWCAP2.split()
#: The same of 32-bit programs (``arch/arm/kernel/setup.c``).
_HWCAP_32 = (
    "swp half thumb 26bit fastmult fpa vfp edsp java iwmmxt crunch thumbee neon vfpv3 vfpv3d16 tls vfpv4 idiva idivt "
    "vfpd32 lpae evtstrm"
)
HWCAP_32, HWCAP2_32 = _HWCAP_32.split(), ["aes", "pmull", "sha1", "sha2", "crc32"]
#: The features by which engines choose kernels; the rest (cryptography, clocks) has no effect here.
_CHOOSING = "fp asimd atomics fphp asimdhp asimdrdm asimddp asimdfhm i8mm bf16 sve sve2"
CHOOSING = set(_CHOOSING.split())
#: Set by the kernel and not by the processor.
_KERNELS = {"evtstrm"}
_AT_HWCAP, _AT_HWCAP2 = 16, 26

#: Marks in the instruction stream, signalled to the plugin by a system call without effect (isatty).
MARK = 0x7A110000
EMPTY, LOAD, FIRST, STEADY = range(1, 5)
BEGIN, END = 0x100, 0x200
#: Inferences that are counted individually after the first; their median is reported.
RUNS = 5


@dataclass(frozen=True)
class Chosen:
    """One artifact of the bundle in the folder ``bundle``."""

    bundle: Path
    target: str
    precision: str

    def opened(self) -> tuple[Bundle, ArtifactRecord, Golden]:
        """Check processor and bundle, then open the bundle."""
        check_processor()
        bundle = read_bundle(self.bundle)
        bundle.verify_integrity()
        if bundle.golden is None:
            raise UnavailableError("the bundle has no golden set", todo="export it again")
        return bundle, bundle.artifact(self.target, self.precision), Golden.load(bundle.golden)


@dataclass(frozen=True)
class CodeMap:
    """Code in memory: its addresses from ``start`` to ``end``, and its file and offset."""

    start: int
    end: int
    offset: int
    file: str


@dataclass(frozen=True)
class CountedRun:
    """The counted run: the engine, the inputs of one inference, and the code mappings, to look up names."""

    engine: EngineFacts
    batch: int
    maps: tuple[CodeMap, ...]


def main() -> None:
    """Answer in a file, because engines may print anything to stdout."""
    sys.modules[NAME] = sys.modules[__name__]  # requests name functions of this module, which is not installed here
    job.serve()


def verify(chosen: Chosen) -> Evidence:
    """The evidence of one artifact."""
    bundle, record, golden = chosen.opened()
    return evidence.execute_again(bundle, record, golden, timed=False, threads=1)


def count(chosen: Chosen) -> CountedRun:
    """Load, run once, run :data:`RUNS` times, each between two marks."""
    bundle, record, golden = chosen.opened()
    engine = runtime_for(record.target)
    runtime = engine(bundle.files(record), record.inputs, record.outputs, threads=1)
    batch = runtime.inputs[0].shape[0] or 1
    feed = {spec.name: golden.inputs[spec.name][:batch] for spec in runtime.inputs}
    for _ in range(2):  # the first pass includes loading the code of the marks themselves
        _marked(EMPTY, lambda: None)
    _marked(LOAD, runtime.__enter__)
    try:
        once = runtime.prepared(feed)
        gc.collect()
        gc.disable()  # a collection would be counted with one of the inferences
        _marked(FIRST, once)
        for _ in range(RUNS):
            _marked(STEADY, once)
        return CountedRun(runtime.facts(), batch, tuple(code_maps(Path("/proc/self/maps").read_text())))
    finally:
        runtime.__exit__(None, None, None)


def _marked(phase: int, run: Callable[[], object]) -> None:
    os.isatty(MARK | BEGIN | phase)
    run()
    os.isatty(MARK | END | phase)


def code_maps(text: str) -> Iterator[CodeMap]:
    """Every executable mapping in the text of ``/proc/self/maps``."""
    for line in text.splitlines():
        match = re.match(r"([0-9a-f]+)-([0-9a-f]+) ..x. ([0-9a-f]+) \S+ \d+\s+(/.*)", line)
        if match:
            yield CodeMap(int(match[1], 16), int(match[2], 16), int(match[3], 16), match[4])


def check_processor() -> None:
    """Compare what engines will read with the actual processor; raises :class:`UsageError` before any engine runs.

    A 32-bit program can't read the processor's part number, and qemu's only 32-bit model for these cores has all
    features ("max"): there, only the features that the description lists are checked, not those that it omits.
    """
    wide = platform.machine() == "aarch64"
    names, more = (HWCAP, HWCAP2) if wide else (HWCAP_32, HWCAP2_32)
    auxiliary = dict(struct.iter_unpack("QQ" if wide else "II", Path("/proc/self/auxv").read_bytes()))
    present = features(auxiliary.get(_AT_HWCAP, 0), names) | features(auxiliary.get(_AT_HWCAP2, 0), more)
    described = Path("/proc/cpuinfo").read_text()
    problem = mismatch(described, present, main_id() if wide else None)
    if problem:
        raise UsageError(
            f"the profile's /proc/cpuinfo doesn't fit its processor model: {problem}",
            expected="features and CPU part of the processor that 'cpu' names",
            todo="correct the device profile",
        )


def features(bits: int, names: list[str]) -> set[str]:
    """The names of the bits that are set."""
    return {name for number, name in enumerate(names) if bits >> number & 1}


def mismatch(described: str, present: set[str], main: int | None) -> str:
    """What the text of ``/proc/cpuinfo`` claims wrongly, or omits; empty if it is right.

    ``present``: features of the processor; ``main``: its MIDR_EL1 ("Arm Architecture Reference Manual", D19.2.100),
    part in bits 4 to 15, or ``None`` if only claimed features can be checked.
    """
    told = dict(re.findall(r"^(\S[^\t:]*?)\s*:\s*(.*)$", described, re.MULTILINE))
    listed = set(told.get("Features", "").split())
    claimed = sorted(listed - present - _KERNELS)
    hidden = sorted((present - listed) & CHOOSING)
    part = int(told.get("CPU part", "0"), 16)
    if claimed:
        return f"it claims {', '.join(claimed)}, which the processor lacks"
    if main is None:
        return ""
    if hidden:
        return f"it hides {', '.join(hidden)}"
    if part != main >> 4 & 0xFFF:
        return f"it names CPU part {part:#x}, the processor is {main >> 4 & 0xFFF:#x}"
    return ""


def main_id() -> int:
    """MIDR_EL1, by the two instructions ``mrs x0, midr_el1; ret`` (Linux lets programs read it)."""
    with mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC) as page:
        page.write(struct.pack("<II", 0xD5380000, 0xD65F03C0))
        start = ctypes.c_char.from_buffer(page)
        number = int(ctypes.CFUNCTYPE(ctypes.c_uint64)(ctypes.addressof(start))())
        del start
    return number


if __name__ == "__main__":
    main()
