"""Which function of which library an address of the emulated program belongs to, and the cost of each function."""

from __future__ import annotations

import shutil
import subprocess
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ulsam_deploy.boards.emulate.elf import Elf
from ulsam_deploy.boards.emulate.guest import CodeMap

__all__ = ["Kernel", "costs"]

#: The number of functions that are listed; the rest is one line.
TOP = 12


@dataclass(frozen=True)
class Kernel:
    """A function of the engine with the instructions it spends in one inference; ``name`` is empty for the rest."""

    name: str
    library: str
    instructions: int


def costs(places: Mapping[int, int], maps: Sequence[CodeMap], runs: int) -> tuple[Kernel, ...]:
    """Instructions per inference by function, the largest first, everything beyond :data:`TOP` in one.

    ``places``: instructions by address over all ``runs``.
    """
    libraries: dict[str, Elf] = {}
    spent: Counter[tuple[str, str]] = Counter()
    for address, instructions in places.items():
        spent[_place(address, maps, libraries)] += instructions
    top = spent.most_common(TOP)
    rest = sum(spent.values()) - sum(instructions for _, instructions in top)
    names = _readable([name for (_, name), _ in top])
    kernels = [Kernel(name, library, n // runs) for name, ((library, _), n) in zip(names, top)]
    return (*kernels, Kernel("", "", rest // runs)) if rest else tuple(kernels)


def _place(address: int, maps: Sequence[CodeMap], libraries: dict[str, Elf]) -> tuple[str, str]:
    """Library and function at an address of the emulated program."""
    for code in maps:
        if code.start <= address < code.end:
            file = code.file
            if file not in libraries:
                libraries[file] = Elf(Path(file))
            virtual = libraries[file].address(address - code.start + code.offset)
            return Path(file).name, (libraries[file].function(virtual) if virtual is not None else "")
    return "", ""


def _readable(names: list[str]) -> list[str]:
    """C++ names in readable form, if the host has ``c++filt``; a function without a name is marked as such."""
    program = shutil.which("c++filt")
    if program and names:
        said = subprocess.run([program, "-p"], input="\n".join(names), capture_output=True, text=True).stdout
        names = said.splitlines() if len(said.splitlines()) == len(names) else names
    return [name or "(no symbol)" for name in names]
