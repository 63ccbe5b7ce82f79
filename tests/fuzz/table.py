"""Fuzzes each target for a while and prints how far it got: ``python -m tests.fuzz.table`` (``make fuzz``).

A find does not keep the other targets from their time. ``--write`` puts the table into docs/security.md; of some
targets only their rows.
"""

from __future__ import annotations

import argparse
import platform
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..hostile import page
from .parsers import FORMS, PARSERS

BEGIN, END = "<!-- made by tests/fuzz -->", "<!-- end of fuzz -->"
_HEADS = ("target", "by form as well", "seconds", "inputs tried", "edges of the seeds", "edges", "corpus", "finds")


@dataclass(frozen=True)
class Reach:
    """How far one target got: inputs, edges of the code reached by the corpus at the start and at the end, its size."""

    seconds: int
    tried: int
    first: int
    edges: int
    corpus: int
    finds: tuple[str, ...]

    @classmethod
    def of(cls, seconds: int, said: str, finds: Sequence[str]) -> Reach:
        """From the lines of libFuzzer: ``#91 INITED cov: 61 ft: 83 corp: 4/2112b ...``."""
        lines = re.findall(r"^#(\d+)\s+(\w+)\s+cov: (\d+) ft: \d+ corp: (\d+)/", said, re.MULTILINE)
        started = [int(cov) for _, what, cov, _ in lines if what == "INITED"]
        last = lines[-1] if lines else ("0", "", "0", "0")
        return cls(seconds, int(last[0]), (started or [0])[0], int(last[2]), int(last[3]), tuple(finds))


def main(argv: Sequence[str] | None = None) -> int:
    """Print the table; 1 when anything was found."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz.table", description=__doc__)
    parser.add_argument("--seconds", type=int, default=60, help="for each target")
    parser.add_argument("--only", action="append", choices=list(PARSERS), help="this target; may be repeated")
    parser.add_argument("--write", action="store_true", help=f"put the rows into {page.PAGE.name}")
    arguments = parser.parse_args(argv)
    rows, finds = [], 0
    for name in arguments.only or PARSERS:
        reach = reached(name, arguments.seconds)
        finds += len(reach.finds)
        rows.append([f"`{name}`", "yes" if name in FORMS else "", *_cells(reach)])
        print(f"| {' | '.join(rows[-1])} |", flush=True)
        sys.stderr.write("".join(f"{name}: {find}\n" for find in reach.finds))
        if arguments.write:  # after each: all take half an hour
            page.put_rows(rows, _HEADS, BEGIN, END, _machine())
    return int(finds > 0)


def reached(name: str, seconds: int) -> Reach:
    """Fuzz the target ``name`` in a process of its own, which ends at its first find."""
    kept = Path(".fuzz", name)
    kept.mkdir(parents=True, exist_ok=True)
    before = set(kept.iterdir())
    command = [sys.executable, "-m", "tests.fuzz", name, f"-max_total_time={seconds}"]
    done = subprocess.run(command, capture_output=True, check=False)
    said = done.stderr.decode(errors="replace")
    new = sorted(
        path for path in set(kept.iterdir()) - before if path.name.split("-")[0] in ("crash", "timeout", "oom")
    )
    finds = [str(path) for path in new]
    if done.returncode and not finds:
        finds = [f"ended with {done.returncode}"]
    if finds:
        sys.stderr.write(said[-4000:])
    return Reach.of(seconds, said, finds)


def _cells(reach: Reach) -> list[str]:
    numbers = (reach.seconds, reach.tried, reach.first, reach.edges, reach.corpus, len(reach.finds))
    return [f"{number:,}" for number in numbers]


def _machine() -> str:
    return f"{time.strftime('%d %B %Y')}, Linux {platform.release()}, Python {platform.python_version()}."


if __name__ == "__main__":
    sys.exit(main())
