"""Commands in turns for a long time in one process: memory, file handles, threads, children, temporary files stay flat.

    python benchmarks/soak.py [--minutes 30] [--write]

verify, bench and sweep run one after the other through the Python entry point, as a service would call them. After
each, the process counts what it holds. ``--write`` puts the plot into docs/soak.svg and the table into
docs/security.md. Exit 1 if anything but memory grew after the first fifth, or memory by more than 5 %.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import platform
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
from tests.ulsam_deploy.handmade import make_bundle
from ulsam_deploy.cli import main as command

ROOT = Path(__file__).parents[1]
PAGE, PLOT = ROOT / "docs" / "security.md", ROOT / "docs" / "soak.svg"
BEGIN, END = "<!-- made by benchmarks/soak.py -->", "<!-- end of soak -->"
NETWORK = "new mobilenet_v1 --insert 3 --subspaces 2 --width 0.25 --classes 5 --input 3x32x32 -o net.pt"
TURNS = (
    "verify model.bundle --junit verify.xml",
    "bench model.bundle --profile quick --rounds 1 -o result.json",
    "sweep sweep.toml -o results --workers 1",
)
#: How much memory may grow from the second fifth to the last.
MOST = 0.05
#: What is left out of the judgement: imports, caches and pools of the first turns.
WARM = 0.2


@dataclass(frozen=True)
class Held:
    """What the process holds after a turn, ``seconds`` after the start."""

    seconds: float
    memory_mib: float
    handles: int
    threads: int
    children: int
    temporary_files: int


def held(began: float, temporary: Path) -> Held:
    """What this process holds now."""
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    handles = sum(1 for _ in Path("/proc/self/fd").iterdir())
    return Held(
        time.monotonic() - began, int(status["VmRSS"].split()[0]) / 1024, handles, int(status["Threads"]),
        len(children), sum(1 for _ in temporary.rglob("*")),
    )  # fmt: skip


def soak(minutes: float) -> tuple[list[Held], dict[str, int]]:
    """What was held after each turn, and how often each command ran."""
    seen, count = list[Held](), dict.fromkeys((turn.split()[0] for turn in TURNS), 0)
    with tempfile.TemporaryDirectory(prefix="soak-") as name:
        folder = Path(name)
        for place in ("work", "tmp", "cache"):
            (folder / place).mkdir(mode=0o700)
        os.environ.update(TMPDIR=str(folder / "tmp"), ULSAM_DEPLOY_CACHE=str(folder / "cache"))
        tempfile.tempdir = None
        os.chdir(folder / "work")
        make_bundle(Path("model.bundle"), targets=("onnx",), width=16, batch=1)
        Path("sweep.toml").write_text('checkpoints = ["net.pt"]\ntargets = ["onnx"]\n')
        _run(NETWORK)
        began = time.monotonic()
        while time.monotonic() - began < minutes * 60:
            for turn in TURNS:
                _run(turn)
                count[turn.split()[0]] += 1
                shutil.rmtree("results", ignore_errors=True)
                seen.append(held(began, folder / "tmp"))
                print(*(f"{value:g}" for value in astuple(seen[-1])), flush=True)
        os.chdir(ROOT)
    return seen, count


def _run(words: str) -> None:
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        code = command(words.split())
    if code not in (0, 5):  # 5: the machine was too busy to time anything
        raise SystemExit(f"{words} ended with {code}: {said.getvalue()[-2000:]}")


def grown(seen: Sequence[Held]) -> dict[str, tuple[float, float]]:
    """By what is held: the median of the second fifth of the time, and of the last."""
    part = max(1, int(len(seen) * WARM))
    early, late = seen[part : 2 * part], seen[-part:]
    names = [one.name for one in fields(Held)][1:]
    return {name: tuple(statistics.median(getattr(one, name) for one in some) for some in (early, late))  # type: ignore[misc]
            for name in names}  # fmt: skip


def is_flat(found: dict[str, tuple[float, float]]) -> bool:
    """Whether nothing grew, and memory by no more than :data:`MOST`."""
    return all(late <= early * (1 + MOST * (name == "memory_mib")) for name, (early, late) in found.items())


def text(seen: Sequence[Held], count: dict[str, int]) -> str:
    """The table and what was run."""
    lines = ["| held by the process | second fifth | last fifth |", "|---|---|---|"]
    lines += [f"| {name.replace('_mib', ', MiB').replace('_', ' ')} | {early:.4g} | {late:.4g} |"
              for name, (early, late) in grown(seen).items()]  # fmt: skip
    runs = ", ".join(f"{name} {number}" for name, number in count.items())
    return "\n".join(lines) + (
        f"\n\n{seen[-1].seconds / 60:.0f} minutes on {time.strftime('%d %B %Y')} ({runs}; Linux {platform.release()}, "
        f"Python {platform.python_version()}); medians of samples after each command.\n\n![What the process holds]"
        f"({PLOT.name})"
    )


def plot(seen: Sequence[Held]) -> None:
    """Draw each figure over time."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    names = [one.name for one in fields(Held)][1:]
    with mpl.rc_context({"svg.hashsalt": "soak", "svg.fonttype": "none", "font.size": 8}):
        figure = Figure(figsize=(7, 6), layout="constrained")
        for axes, name in zip(figure.subplots(len(names), sharex=True), names):
            axes.plot([one.seconds / 60 for one in seen], [getattr(one, name) for one in seen], linewidth=1)
            axes.set_ylabel(name.replace("_mib", "\nMiB").replace("_", "\n"))
            axes.set_ylim(bottom=0)
        axes.set_xlabel("minutes")
        figure.savefig(PLOT, format="svg", metadata={"Date": None, "Creator": None})


def main() -> int:
    """Soak, print, write."""
    parser = argparse.ArgumentParser(description="Commands in turns for a long time in one process.")
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--write", action="store_true", help=f"put plot and table into {PAGE.name}")
    arguments = parser.parse_args()
    seen, count = soak(arguments.minutes)
    print(text(seen, count))
    if arguments.write:
        plot(seen)
        before, _, rest = PAGE.read_text().partition(BEGIN)
        PAGE.write_text(f"{before}{BEGIN}\n\n{text(seen, count)}\n\n{END}{rest.partition(END)[2]}")
    return int(not is_flat(grown(seen)))


if __name__ == "__main__":
    sys.exit(main())
