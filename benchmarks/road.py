"""Seconds and peak memory of every stage of the road, cold and warm: MobileNetV2 + ULSAM at 224, all targets.

    python benchmarks/road.py [--runs 3]

Each run is a fresh process with a cache folder of its own; "cold" has an empty cache, "warm" repeats the same command.
"ONNX alone" is ``--target onnx``, cold, beside a process that does nothing but ``torch.onnx.export`` on the same
checkpoint. Aims (2 cores): all targets under 60 s cold, under 3 s warm; ONNX alone 1.3 times ``torch.onnx.export``;
``ulsam-export --help`` under 0.15 s; peak memory under 3 GiB.
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
from pathlib import Path

RUN = """
import sys
from pathlib import Path
from ulsam_deploy.options import ExportOptions
from ulsam_deploy.pipeline import export
from ulsam_deploy.progress import Progress

progress = Progress(quiet=True)
result = export(ExportOptions(Path(sys.argv[1]), tuple(sys.argv[3:]), output=Path(sys.argv[2])), progress)
for stage in progress.stages:
    print(stage.name, stage.seconds, stage.peak or 0, sep="\\t")
sys.exit(result.exit_code)
"""

NAIVE = """
import sys
import torch
from ulsam_deploy import checkpoint

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


def table(title: str, totals: list[float], outputs: list[str]) -> None:
    """Median seconds a stage, and the process's peak memory when it ended."""
    print(f"\n{title}: median {statistics.median(totals):.1f} s of {[round(t, 1) for t in totals]}")
    rows = [[line.split("\t") for line in output.splitlines()] for output in outputs]
    for index, (name, _, _) in enumerate(rows[0]):
        seconds = statistics.median(float(run[index][1]) for run in rows)
        peak = max(int(run[index][2]) for run in rows)
        print(f"  {name:<18}{seconds:7.2f} s   peak {peak / 2**20:7.0f} MiB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=3)
    runs = parser.parse_args().runs
    print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}")
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder, "model.pt")
        new = [sys.executable, "-m", "ulsam_deploy", "new", "mobilenet_v2_ulsam_sub_12_13_15_16", "-o", str(model)]
        measured(new, dict(os.environ))
        cold, warm, said = [], [], ([], [])
        alone, naive, stages = [], [], []
        for run in range(runs):
            env = {**os.environ, "ULSAM_DEPLOY_CACHE": str(Path(folder, f"onnx-{run}"))}
            command = [sys.executable, "-c", RUN, str(model), str(Path(folder, f"onnx-{run}.bundle")), "onnx"]
            seconds, output = measured(command, env)
            alone.append(seconds)
            stages.append(output)
            naive.append(measured([sys.executable, "-c", NAIVE, str(model), str(Path(folder, "naive.onnx"))], env)[0])
            env = {**os.environ, "ULSAM_DEPLOY_CACHE": str(Path(folder, f"cache-{run}"))}
            command = [sys.executable, "-c", RUN, str(model), str(Path(folder, f"{run}.bundle")), "all"]
            for totals, outputs in ((cold, said[0]), (warm, said[1])):
                seconds, output = measured(command, env)
                totals.append(seconds)
                outputs.append(output)
        table("cold", cold, said[0])
        table("warm", warm, said[1])
        table("ONNX alone, cold", alone, stages)
        ratio = statistics.median(alone) / statistics.median(naive)
        print(f"torch.onnx.export: median {statistics.median(naive):.1f} s, so ONNX alone takes {ratio:.1f} times that")
        helps = [
            measured([sys.executable, "-m", "ulsam_deploy", "export", "--help"], dict(os.environ))[0] for _ in range(9)
        ]
        print(f"\n--help: median {statistics.median(helps):.3f} s, fastest {min(helps):.3f} s")


if __name__ == "__main__":
    main()
