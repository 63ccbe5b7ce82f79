"""How long the tool takes beside 0, 1, 2 and 4 programs that keep a core busy each, next to its fair share.

    python benchmarks/neighbours.py --write       the table of docs/performance.md; a quarter of an hour
    python benchmarks/neighbours.py --default     the same with as many threads as torch would take; hours

Needs a machine that runs nothing else; what ran besides is stated as "load by others". Every round runs all numbers of
neighbours and all commands in turns, each export with an empty cache. A program with one thread gets a core where there
is one for everybody, and cores / programs of one otherwise: the fair share is its time alone divided by that. Aims:
1.3 times the fair share, and alone no more than 1.03 times what torch's own number of threads takes.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import platform
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ulsam_deploy.device.bench.board import Board

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "performance.md"
BEGIN, END = "<!-- made by benchmarks/neighbours.py -->", "<!-- end of the neighbours -->"
MODEL = ROOT / "models" / "cluttered_digits.pt"
NEIGHBOURS = (0, 1, 2, 4)
TOOL = [sys.executable, "-m", "ulsam_deploy"]
#: Seconds after which a command counts as standing still.
PATIENCE = 900.0


@dataclass(frozen=True)
class Run:
    """One command beside some neighbours: its seconds, and the share of all cores that other programs used."""

    seconds: float
    others: float


@contextlib.contextmanager
def busy(count: int) -> Iterator[None]:
    """``count`` processes that compute and never wait."""
    processes = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for one in processes:
            one.kill()
            one.wait()


def commands(folder: Path) -> Mapping[str, list[str]]:
    """What is timed, in this order: ``verify`` reads the bundle that ``export`` has made."""
    bundle = str(folder / "made.bundle")
    return {
        "export": [*TOOL, "export", str(MODEL), "--target", "onnx", "--no-cache", "-o", bundle],
        "verify": [*TOOL, "verify", bundle],
        "make test": ["make", "-C", str(ROOT), "test"],
    }


def timed(command: Sequence[str], neighbours: int, variables: Mapping[str, str]) -> Run:
    """Run ``command`` once beside ``neighbours``; stops everything if it fails."""
    board = Board()
    own, (before, there) = _children(), board.cpu_seconds() or (0.0, 0.0)
    with busy(neighbours):
        began = time.perf_counter()
        try:
            done = subprocess.run(command, env=variables, capture_output=True, text=True, timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            return Run(float("inf"), float("nan"))
        seconds = time.perf_counter() - began
    if done.returncode:
        sys.exit(f"{' '.join(command[2:5])} ... failed:\n{done.stderr}")
    after, now = board.cpu_seconds() or (0.0, 1.0)
    return Run(seconds, max(0.0, (after - before - (_children() - own)) / (now - there)))


def _children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def page(found: Mapping[tuple[str, int], list[Run]], rounds: int, threads: str) -> Iterator[str]:
    """The table."""
    cores = len(os.sched_getaffinity(0))
    machine = f"{platform.machine()}, {cores} cores, Python {platform.python_version()}"
    yield f"{machine}, {threads}; medians of {rounds} rounds. In brackets: of the fair share; aim: 1.3."
    yield ""
    names = dict.fromkeys(name for name, _ in found)
    yield "| neighbours | " + " | ".join(f"{name}, s" for name in names) + " | load by others |"
    yield "|---" * (len(names) + 2) + "|"
    for count in NEIGHBOURS:
        cells = []
        for name in names:
            seconds = statistics.median(run.seconds for run in found[name, count])
            alone = statistics.median(run.seconds for run in found[name, 0])
            cells.append(f"{seconds:.1f} ({seconds / (alone * max(1.0, (count + 1) / cores)):.2f})")
        load = statistics.median(run.others for name in names for run in found[name, count])
        yield f"| {count} | {' | '.join(cells)} | {load:.0%} |"


def main() -> None:
    """Measure, print, and write on demand."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--suite", action="store_true", help="also 'make test': ten minutes each time")
    parser.add_argument("--default", action="store_true", help="with as many threads as there are cores")
    parser.add_argument("--write", action="store_true", help=f"into docs/{PAGE.name}")
    asked = parser.parse_args()
    variables = {name: text for name, text in os.environ.items() if name != "OMP_NUM_THREADS"}
    if asked.default:
        variables["OMP_NUM_THREADS"] = str(len(os.sched_getaffinity(0)))
    found: dict[tuple[str, int], list[Run]] = {}
    with tempfile.TemporaryDirectory() as folder:
        wanted = {name: words for name, words in commands(Path(folder)).items() if asked.suite or name != "make test"}
        for number in range(asked.rounds):
            for count in NEIGHBOURS[:: -1 if number % 2 else 1]:
                shutil.rmtree(Path(folder) / "made.bundle", ignore_errors=True)
                for name, command in wanted.items():
                    run = timed(command, count, variables)
                    found.setdefault((name, count), []).append(run)
                    print(f"{count} neighbours, {name}: {run.seconds:.1f} s, others {run.others:.0%}", file=sys.stderr)
    text = "\n".join(page(found, asked.rounds, "torch's own threads" if asked.default else "the tool's own threads"))
    print(text)
    if asked.write:
        before, _, rest = PAGE.read_text().partition(BEGIN)
        PAGE.write_text(f"{before}{BEGIN}\n\n{text}\n\n{END}{rest.partition(END)[2]}")


if __name__ == "__main__":
    main()
