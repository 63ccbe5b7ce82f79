"""Collects what ``run.py`` needs on a machine with a GPU and no network, in parts that one transfer can carry.

    python benchmarks/gpu/prepare.py              build/gpu/part1, part2, part3
    python benchmarks/gpu/prepare.py --cuda       also onnxruntime-gpu, 256 MB: 8 parts, the first 3 with all the rest

The wheels are for Python 3.12 on x86-64: this package, TensorRT for RTX, onnxsim. The bundle is that of the reference
network, with its checkpoint. torch, numpy, onnx, onnxruntime and pytest are expected there. Every part has the same
index of all files, with their hashes.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
OUTPUT = ROOT / "build" / "gpu"
MODEL = ROOT / "models" / "cluttered_digits.pt"
#: No part is larger, in bytes: one transfer carries 64 MiB, with the working tree.
LARGEST = 48 << 20
RTX = "1.7.1.116"
WHEELS = (f"tensorrt_rtx_cu13_bindings=={RTX}", f"tensorrt_rtx_cu13_libs=={RTX}", "onnxsim==0.8.1")
#: Its source distributions are a few lines of Python, which pip turns into wheels.
PURE = (f"tensorrt_rtx=={RTX}", f"tensorrt_rtx_cu13=={RTX}")
CUDA = "onnxruntime-gpu==1.31.1"
#: pip matches the number exactly.
PLATFORMS = [f"--platform=manylinux_2_{minor}_x86_64" for minor in (17, 24, 27, 28, 31, 34)]


def main() -> None:
    """Collect, cut and index."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cuda", action="store_true", help="also onnxruntime-gpu, for --provider cuda")
    asked = parser.parse_args()
    whole = OUTPUT / "whole"
    shutil.rmtree(OUTPUT, ignore_errors=True)
    whole.mkdir(parents=True)
    wheels(whole, [*WHEELS, *([CUDA] if asked.cuda else [])])
    bundle(whole)
    parts = cut(sorted(whole.iterdir(), key=lambda path: (path.stat().st_size, path.name)))
    shutil.rmtree(whole)
    for part in parts:
        print(f"{part}: {sum(path.stat().st_size for path in part.iterdir()) / 1e6:.1f} MB")


def wheels(folder: Path, names: list[str]) -> None:
    """The wheels of ``names`` for Python 3.12, and this package's own."""
    pip = [sys.executable, "-m", "pip", "--quiet"]
    target = ["--python-version=3.12", "--implementation=cp", *PLATFORMS]
    subprocess.run(
        [*pip, "download", "--no-deps", "--only-binary=:all:", *target, f"--dest={folder}", *names], check=True
    )
    subprocess.run([*pip, "wheel", "--no-deps", f"--wheel-dir={folder}", *PURE, str(ROOT)], check=True)


def bundle(folder: Path) -> None:
    """The reference network's checkpoint, and its ONNX artifacts and TensorRT kits as one file."""
    shutil.copy(MODEL, folder)
    tool = [sys.executable, "-m", "ulsam_deploy"]
    made = folder / "made.bundle"
    words = ["--target", "onnx,trt", "--precision", "fp32,fp16", "-o", str(made)]
    done = subprocess.run([*tool, "export", str(MODEL), *words], check=False)
    if done.returncode not in (0, 5):  # 5: nothing of a kit was executed here
        sys.exit(done.returncode)
    subprocess.run([*tool, "pack", str(made), "-o", str(folder / "bundle.zip")], check=True)
    shutil.rmtree(made)


def cut(files: list[Path]) -> list[Path]:
    """Fill folders with ``files`` in order, each up to :data:`LARGEST` bytes; a file may be continued in the next."""
    index: dict[str, dict[str, object]] = {}
    parts: list[Path] = []
    free = 0
    for path in files:
        content, pieces = path.read_bytes(), 0
        index[path.name] = {"sha256": hashlib.sha256(content).hexdigest()}
        while content:
            if not free:
                parts.append(OUTPUT / f"part{len(parts) + 1}")
                parts[-1].mkdir()
                free = LARGEST
            piece, content = content[:free], content[free:]
            (parts[-1] / f"{path.name}.{pieces}").write_bytes(piece)
            pieces, free = pieces + 1, free - len(piece)
        index[path.name]["pieces"] = pieces
    for part in parts:
        (part / "index.json").write_text(json.dumps(index, indent=2))
    return parts


if __name__ == "__main__":
    main()
