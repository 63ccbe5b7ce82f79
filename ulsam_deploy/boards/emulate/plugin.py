"""Compiles the counting plugin with the host's C compiler, on first use, and reads its output."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

from ulsam_deploy.boards.emulate import tools
from ulsam_deploy.boards.emulate.guest import BEGIN, EMPTY, END
from ulsam_deploy.device.cache import cache_root, key
from ulsam_deploy.device.errors import UnavailableError
from ulsam_deploy.device.files import staging

__all__ = ["CLASSES", "Tally", "arguments", "check", "compiled", "read_tally"]

SOURCE = Path(__file__).with_name("icount.c")
#: In the order of the plugin's columns; the first is all instructions. "simd" is floating point and vectors, and "fma"
#: (fused multiply-adds) and "dot_product" are parts of it.
CLASSES = ("all", "load_store", "branch", "simd", "fma", "dot_product")

Counted = tuple[int, ...]


@dataclass(frozen=True)
class Tally:
    """Instructions by phase, each a tuple in the order of :data:`CLASSES`, without those of marks; and by address."""

    phases: dict[int, tuple[Counted, ...]]
    places: dict[int, int]


def compiled(qemu: str) -> Path:
    """The plugin for this qemu, from the cache or compiled now; raises :class:`UnavailableError` without a compiler."""
    version = tools.qemu_version(qemu)
    api = 1 if version < (9, 0) else 2 if version < (9, 1) else 3
    folder = cache_root() / ".plugins"
    path = folder / f"icount-{key(SOURCE.read_text(), api)[:16]}.so"
    if not path.is_file():
        compiler = tools.find("cc", "gcc libc6-dev")
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with staging(path, folder=False) as partial:
            command: list[str | Path] = [
                compiler,
                "-std=c11",
                "-O2",
                "-shared",
                "-fPIC",
                f"-DAPI={api}",
                "-o",
                partial,
                SOURCE,
            ]
            tools.fetch(command, "compiling the counting plugin", "apt-get install gcc libc6-dev")
            partial.replace(path)
    return path


def arguments(plugin: Path, qemu: str, output: Path) -> list[str]:
    """qemu's arguments for the plugin, which writes to ``output``; raises as :func:`check` does."""
    check(qemu)
    return ["-plugin", f"{plugin},out={output}"]


def check(qemu: str) -> None:
    """Raise :class:`UnavailableError` for a qemu that was built without plugins."""
    if "-plugin" not in subprocess.run([qemu, "-help"], capture_output=True, text=True).stdout:
        raise UnavailableError(
            f"{qemu} was built without plugins, and counting needs one",
            expected="qemu-user of Debian (that of Ubuntu 24.04, and qemu-user-static, have none)",
            todo=f"{tools.CONTAINER} bench BUNDLE --device BOARD --count",
        )


def read_tally(text: str) -> Tally:
    """Parse the plugin's output; raises :class:`UnavailableError` if it is empty or incomplete."""
    open_marks: dict[int, Counted] = {}
    phases: dict[int, list[Counted]] = {}
    places: dict[int, int] = {}
    for line in text.splitlines():
        kind, *words = line.split()
        if kind == "at":
            places[int(words[0], 16)] = places.get(int(words[0], 16), 0) + int(words[1])
            continue
        mark, totals = int(words[0]), tuple(map(int, words[1:]))
        phase = mark & 0xFF
        if mark & BEGIN:
            open_marks[phase] = totals
        elif mark & END and phase in open_marks:
            before = open_marks.pop(phase)
            phases.setdefault(phase, []).append(tuple(after - b for after, b in zip(totals, before)))
    if open_marks or EMPTY not in phases:
        raise UnavailableError("the counting plugin saw no complete run", todo="report it with your qemu's version")
    marks = phases.pop(EMPTY)[-1]
    less = {phase: tuple(tuple(n - m for n, m in zip(run, marks)) for run in runs) for phase, runs in phases.items()}
    return Tally(less, places)
