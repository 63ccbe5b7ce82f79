"""Seconds and peak memory of every stage of the pipeline, cold and warm: MobileNetV2 + ULSAM at 224, all targets.

    python benchmarks/pipeline.py --write      the first table of docs/performance.md; six minutes

Each run is a fresh process with a cache folder of its own; "cold" has an empty cache, "warm" repeats the same command.
"ONNX alone" is ``--target onnx``, cold, beside a process that does nothing but ``torch.onnx.export`` on the same
checkpoint. Targets are built in parallel: stages overlap, and "targets" is what they take together; a stage's memory
is that of the process that it ran in. Aims (2 cores): all targets under 60 s cold, under 3 s warm; ONNX alone 1.3 times
``torch.onnx.export``; ``ulsam-export --help`` under 0.15 s; peak memory under 3 GiB.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "performance.md"
BEGIN, END = "<!-- made by benchmarks/pipeline.py -->", "<!-- end of the stages -->"

RUN = """
import sys
from pathlib import Path
from ulsam_deploy.device import share
share.claim()
from ulsam_deploy.exporting.options import ExportOptions
from ulsam_deploy.exporting.pipeline import export
from ulsam_deploy.device.progress import Progress

progress = Progress(quiet=True)
result = export(ExportOptions(Path(sys.argv[1]), targets=tuple(sys.argv[3:]), output=Path(sys.argv[2])), progress)
for stage in progress.stages:
    print(stage.name, stage.seconds, stage.peak or 0, sep="\\t")
sys.exit(result.exit_code)
"""

NAIVE = """
import sys
import torch
from ulsam_deploy.load import checkpoint

weights = checkpoint.read(sys.argv[1])
model = checkpoint.build(weights, *checkpoint.identify(weights, None, None))
torch.onnx.export(model, (torch.zeros(1, 3, 224, 224),), sys.argv[2], verbose=False)
"""


def measured(command: list[str], env: dict[str, str]) -> tuple[float, str]:
    """Wall seconds and stdout of one fresh process; stops everything when it fails."""
    started = time.perf_counter()
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - started
    if done.returncode:
        sys.exit(f"{' '.join(command[:3])} ... failed:\n{done.stderr}")
    return seconds, done.stdout


def stages(outputs: list[str]) -> Iterator[tuple[str, float, float]]:
    """Name, median seconds and largest peak in MiB of every stage."""
    rows = [[line.split("\t") for line in output.splitlines()] for output in outputs]
    for index, (name, _, _) in enumerate(rows[0]):
        seconds = statistics.median(float(run[index][1]) for run in rows)
        yield name, seconds, max(int(run[index][2]) for run in rows) / 2**20


class Measured:
    """Wall seconds of every run by what was run, and what it said of its stages."""

    def __init__(self) -> None:
        self.seconds: dict[str, list[float]] = {}
        self.said: dict[str, list[str]] = {}

    def run(self, name: str, command: list[str], cache: Path | None = None) -> None:
        """Once more, with the cache folder ``cache``."""
        env = {**os.environ, "ULSAM_DEPLOY_CACHE": str(cache)} if cache else dict(os.environ)
        seconds, output = measured(command, env)
        self.seconds.setdefault(name, []).append(seconds)
        self.said.setdefault(name, []).append(output)

    def median(self, name: str) -> float:
        """Of its runs, in seconds."""
        return statistics.median(self.seconds[name])

    def all(self, name: str) -> str:
        """Every run's seconds."""
        return ", ".join(f"{seconds:.1f}" for seconds in self.seconds[name])


def walked(folder: Path, runs: int) -> Measured:
    """Every way to walk the pipeline, by turns."""
    found, model = Measured(), folder / "model.pt"
    tool = [sys.executable, "-m", "ulsam_deploy"]
    measured([*tool, "new", "mobilenet_v2_ulsam_sub_12_13_15_16", "-o", str(model)], dict(os.environ))
    for run in range(runs):
        for name, cache in (("onnx", f"onnx-{run}"), ("cold", f"all-{run}"), ("warm", f"all-{run}")):
            target = "onnx" if name == "onnx" else "all"
            words = [str(model), str(folder / f"{cache}.bundle"), target]
            found.run(name, [sys.executable, "-c", RUN, *words], folder / cache)
        found.run("naive", [sys.executable, "-c", NAIVE, str(model), str(folder / "naive.onnx")])
    for _ in range(9):
        found.run("help", [*tool, "export", "--help"])
    return found


def page(found: Measured, runs: int) -> Iterator[str]:
    """The table, and what was aimed at."""
    yield f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}; medians of {runs} runs."
    yield ""
    yield "| stage | cold, s | peak memory, MiB |"
    yield "|---|---|---|"
    rows = list(stages(found.said["cold"]))
    for name, seconds, peak in rows:
        yield f"| {name} | {seconds:.1f} | {peak:.0f} |"
    yield f"| **everything** | **{found.median('cold'):.1f}** | {max(peak for _, _, peak in rows):.0f} |"
    yield ""
    ratio = found.median("onnx") / found.median("naive")
    alone = f"{found.median('onnx'):.1f} s against {found.median('naive'):.1f} s, {ratio:.1f} times"
    parts = ", ".join(f"{name} {seconds:.1f}" for name, seconds, _ in stages(found.said["onnx"]))
    yield f"* All targets cold: {found.median('cold'):.1f} s ({found.all('cold')}); aim: under 60 s."
    yield f"* The same command again, nothing changed: {found.median('warm'):.2f} s; aim: under 3 s."
    yield f"* ONNX alone beside `torch.onnx.export` alone: {alone}; aim: 1.3. Its stages, s: {parts}."
    yield f"* `ulsam-export --help`: {found.median('help'):.3f} s; aim: under 0.15 s."


def main() -> None:
    """Measure, print, and write on demand."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--write", action="store_true", help=f"into docs/{PAGE.name}")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        text = "\n".join(page(walked(Path(folder), asked.runs), asked.runs))
    print(text)
    if asked.write:
        before, _, rest = PAGE.read_text().partition(BEGIN)
        PAGE.write_text(f"{before}{BEGIN}\n\n{text}\n\n{END}{rest.partition(END)[2]}")


if __name__ == "__main__":
    main()
