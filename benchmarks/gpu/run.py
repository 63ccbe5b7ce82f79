"""What a machine with an NVIDIA GPU shows of this project, as one table, in under six minutes and without a network.

    python benchmarks/gpu/run.py collect build/gpu/part1       once for each part, as they arrive
    python benchmarks/gpu/run.py show -o $OUT                  join, install, run every step; gpu.md and gpu.json

``prepare.py`` makes the parts on another machine. Every row of :data:`STEPS` is in the table: one that could not be
filled says why. Each step is a process of its own, because an engine may crash. A row that failed is exit 1; one that
could not run is not, because this also runs where there is no GPU (the dry run). Standard library only.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
PLACE = Path("/tmp/ulsam-deploy-gpu")
#: The rows of each step, in order; ``steps.py`` has a function of that name for each.
STEPS: Mapping[str, tuple[str, ...]] = {
    "machine": ("machine", "software"),
    "cuda": ("device memory and stream", "CUDA graph"),
    "compiled": ("TensorRT: an engine for SM90 without the driver",),
    "tensorrt_fp32": tuple(
        f"TensorRT fp32: {what}"
        for what in ("build", "sidecar", "parity", "retention", "time", "changed engine", "inner values")
    ),
    "tensorrt_fp16": tuple(f"TensorRT fp16: {what}" for what in ("build", "parity", "retention", "time")),
    "torch_cuda": (
        "PyTorch on the CPU: fp32",
        "PyTorch on CUDA: fp32, TF32 off",
        "PyTorch on CUDA: TF32",
        "PyTorch on CUDA: time",
    ),
    "onnx_cpu": ("ONNX Runtime, CPU: fp32", "ONNX Runtime, CPU: fp16"),
    "onnx_cuda": ("ONNX Runtime, CUDA: fp32", "ONNX Runtime, CUDA: fp16"),
    "onnx_tensorrt": ("ONNX Runtime, TensorRT: fp32", "ONNX Runtime, TensorRT: fp16"),
    "marked": ("tests marked gpu",),
}
NOT_RUN = "not run"
#: Seconds that must be left for a step to be started.
LEAST = 5.0


@dataclass(frozen=True)
class Row:
    """One row: ``result`` is ``ok``, ``seen`` (a fact without a bound), ``failed`` or ``not run``."""

    what: str
    result: str
    detail: str


def collect(part: Path) -> None:
    """Keep the files of ``part`` where the next transfer does not replace them."""
    PLACE.mkdir(parents=True, exist_ok=True)
    for path in part.iterdir():
        shutil.copy(path, PLACE / path.name)
    print(f"{part}: kept in {PLACE}")


def join() -> str:
    """Put every file of the index together; returns which ones are missing or wrong, and why."""
    index = PLACE / "index.json"
    if not index.is_file():
        return f"nothing was collected in {PLACE}"
    problems = []
    for name, file in json.loads(index.read_text()).items():
        pieces = [PLACE / f"{name}.{number}" for number in range(file["pieces"])]
        missing = [piece.name for piece in pieces if not piece.is_file()]
        content = b"" if missing else b"".join(piece.read_bytes() for piece in pieces)
        if missing or hashlib.sha256(content).hexdigest() != file["sha256"]:
            problems.append(f"{name}: {'no ' + ', '.join(missing) if missing else 'another SHA-256'}")
            continue
        (PLACE / name).write_bytes(content)
    return "; ".join(problems)


def install() -> str:
    """Install the joined wheels into a folder of their own; returns why that failed."""
    site = PLACE / "site"
    shutil.rmtree(site, ignore_errors=True)
    wheels = [str(path) for path in sorted(PLACE.glob("*.whl"))]
    if not wheels:
        return "no wheels were collected"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--no-compile"]
    done = subprocess.run([*pip, "--target", str(site), *wheels], capture_output=True, text=True)
    return done.stderr.strip().splitlines()[-1] if done.returncode else ""


def show(seconds: float, output: Path) -> int:
    """Run every step within ``seconds`` in all, and write the table."""
    began = time.monotonic()
    problems = [problem for problem in (join(), install()) if problem]
    rows = [Row("files and wheels", "failed" if problems else "ok", "; ".join(problems) or "complete and installed")]
    for step, names in STEPS.items():
        left = seconds - (time.monotonic() - began)
        rows += filled(step, names, left)
        for row in rows[-len(names) :]:
            print(f"{time.monotonic() - began:4.0f} s  {row.what}: {row.result}: {row.detail}", flush=True)
    output.mkdir(parents=True, exist_ok=True)
    (output / "gpu.json").write_text(json.dumps([asdict(row) for row in rows], indent=2) + "\n")
    (output / "gpu.md").write_text("\n".join(table(rows)) + "\n")
    return int(any(row.result == "failed" for row in rows))


def filled(step: str, names: tuple[str, ...], left: float) -> Iterator[Row]:
    """Every row of ``names``: what ``step`` said of it, or why it said nothing."""
    found, why = run(step, left) if left > LEAST else ({}, "the time was used up")
    for name in names:
        yield found.pop(name, None) or Row(name, NOT_RUN, why)
    for surplus in found.values():
        yield Row(surplus.what, "failed", "a row that STEPS does not list")


def run(step: str, seconds: float) -> tuple[dict[str, Row], str]:
    """What ``step`` said by row, and why it did not say more."""
    paths = os.pathsep.join([str(PLACE / "site"), *filter(None, [os.environ.get("PYTHONPATH")])])
    variables = {**os.environ, "PYTHONPATH": paths, "ULSAM_DEPLOY_CACHE": str(PLACE / "cache")}
    command = [sys.executable, str(HERE / "steps.py"), step, str(PLACE)]
    said = PLACE / f"{step}.jsonl"
    said.unlink(missing_ok=True)
    PLACE.mkdir(parents=True, exist_ok=True)
    try:
        done = subprocess.run(command, cwd=PLACE, env=variables, capture_output=True, text=True, timeout=seconds)
        last = (done.stderr.strip().splitlines() or ["it said nothing more"])[-1]
        why = f"exit status {done.returncode}: {last}"
    except subprocess.TimeoutExpired:
        why = f"the step took longer than the {seconds:.0f} s that were left"
    lines = said.read_text().splitlines() if said.is_file() else []
    rows = [Row(**json.loads(line)) for line in lines]
    return {row.what: row for row in rows}, why


def table(rows: list[Row]) -> Iterator[str]:
    """The rows in Markdown."""
    yield "| what | result | detail |"
    yield "|---|---|---|"
    for row in rows:
        yield f"| {row.what} | {row.result} | {row.detail.replace('|', '/')} |"


def main() -> None:
    """Collect a part, or run everything."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words = parser.add_subparsers(dest="command", required=True)
    words.add_parser("collect").add_argument("part", type=Path)
    shown = words.add_parser("show")
    shown.add_argument("--seconds", type=float, default=330.0, help="for all steps together")
    shown.add_argument("-o", "--output", type=Path, default=PLACE / "out")
    asked = parser.parse_args()
    if asked.command == "collect":
        collect(asked.part)
    else:
        sys.exit(show(asked.seconds, asked.output.absolute()))


if __name__ == "__main__":
    main()
