"""Which board a machine proves to be: compares its own files with what device profiles expect.

Standard library only; device-safe. A machine that only claims to be a board (an emulator, a virtual machine, a
container of another architecture) contradicts itself somewhere, and then does not count as one.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from ulsam_deploy.device.bench.board import Board

__all__ = ["DeviceProof", "Identities", "Identity", "prove"]

#: The word size of the Python that runs the engine: it may be 32 bits on a 64-bit kernel.
BITS = 64 if sys.maxsize > 2**32 else 32


@dataclass(frozen=True)
class Identity:
    """The expected contents of a board's files. Everything that a profile states must be readable, and match.

    ``models``: patterns for the board's own name (``*`` is any text). ``parts``: ``CPU part`` of each of its cores in
    ``/proc/cpuinfo``; empty: not checked. ``bits``: of the programs that run there. ``l4t``: patterns for the release
    of Jetson Linux; empty: not checked.
    """

    models: tuple[str, ...]
    parts: tuple[str, ...] = ()
    bits: int = field(default=64, metadata={"minimum": 32})
    l4t: tuple[str, ...] = ()

    def doubt(self, board: Board, bits: int) -> str:
        """Why a machine whose name matches is not this board; empty if nothing contradicts it."""
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
    """Identities by the name of the device profile, as stored in ``runner.pyz``."""

    devices: Mapping[str, Identity]


@dataclass(frozen=True)
class DeviceProof:
    """The device profile that a machine proves to be, or ``None``; ``why`` is a clause without a full stop."""

    device: str | None
    why: str


def prove(board: Board, known: Mapping[str, Identity], bits: int = BITS) -> DeviceProof:
    """Which of ``known`` the machine is.

    Args:
        board: The machine.
        known: The identity of each device profile, by its name.
        bits: The word size of this Python.

    Returns:
        The first profile that matches in everything, or none, with the contradictions.
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
    return DeviceProof(None, f"this machine is '{model}', and no device profile describes that")


def _fits(text: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatchcase(text, pattern) for pattern in patterns)


def _listed(words: Iterable[str]) -> str:
    return " or ".join(words) or "unknown"
