"""Which board a machine proves to be: what its own files say of it, held against what device profiles expect.

Standard library only; device-safe. A machine that only claims to be a board (an emulator, a virtual machine, a
container of another architecture) contradicts itself somewhere, and is then no board here.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from ulsam_deploy.device.bench.board import Board

__all__ = ["DeviceProof", "Identities", "Identity", "prove"]

#: Of the Python that runs the engine: on a 64-bit kernel it may be a 32-bit one.
BITS = 64 if sys.maxsize > 2**32 else 32


@dataclass(frozen=True)
class Identity:
    """What the files of a board say. Everything that a profile states must be there to be read, and fit.

    ``models``: the board's own name, one of these patterns (``*`` is any text). ``parts``: ``CPU part`` of each of its
    cores in ``/proc/cpuinfo``; empty: not looked at. ``bits``: of the programs that run there. ``l4t``: patterns for
    the release of Jetson Linux; empty: not looked at.
    """

    models: tuple[str, ...]
    parts: tuple[str, ...] = ()
    bits: int = field(default=64, metadata={"minimum": 32})
    l4t: tuple[str, ...] = ()

    def doubt(self, board: Board, bits: int) -> str:
        """What speaks against it on a machine whose name fits; empty where nothing does."""
        if bits != self.bits:
            return f"its programs have {bits} bits, not {self.bits}"
        found = board.cpu_parts()
        if self.parts and not (found and found <= set(self.parts)):
            return f"its processor is {_listed(sorted(found))}, not {_listed(self.parts)}"
        if self.l4t and not _fits(board.l4t or "", self.l4t):
            return f"its Jetson Linux is {board.l4t or 'unknown'}, not {_listed(self.l4t)}"
        return ""


@dataclass(frozen=True)
class Identities:
    """By the name of the device profile; as it travels in ``runner.pyz``."""

    devices: Mapping[str, Identity]


@dataclass(frozen=True)
class DeviceProof:
    """The device profile that a machine proves to be, or ``None``; ``why``, in words without a full stop."""

    device: str | None
    why: str


def prove(board: Board, known: Mapping[str, Identity], bits: int = BITS) -> DeviceProof:
    """Which of ``known`` the machine is.

    Args:
        board: The machine.
        known: What identifies each device profile, by its name.
        bits: Of the Python that runs.

    Returns:
        The first profile that everything fits, or none with what speaks against it.
    """
    model = board.model
    if model is None:
        return DeviceProof(None, "this machine does not say which board it is")
    doubts = {name: each.doubt(board, bits) for name, each in known.items() if _fits(model, each.models)}
    for name, doubt in doubts.items():
        if not doubt:
            return DeviceProof(name, f"this machine is '{model}'")
    if doubts:
        told = "; ".join(f"it is not {name}, because {doubt}" for name, doubt in doubts.items())
        return DeviceProof(None, f"this machine says that it is '{model}'; {told}")
    return DeviceProof(None, f"this machine is '{model}', and no device profile is about that")


def _fits(text: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatchcase(text, pattern) for pattern in patterns)


def _listed(words: Iterable[str]) -> str:
    return " or ".join(words) or "unknown"
