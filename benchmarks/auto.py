"""The tables of docs/auto.md: ``--precision auto`` on three trained networks.

    python benchmarks/auto.py [--target onnx] [--samples 2000] [--only reference|diffuse|mobilenet] [--folder DIR]

The reference network is calibrated on images of its training split and judged on its held-out evaluation set. The
diffuse one is a small MobileNetV1 at 112 x 112 with ULSAM on 56 x 56 and 28 x 28 maps, trained here for a minute on
smooth patterns in noise: its attention hardly differs from 1/(H*W), the smallest term that there is to lose. The
MobileNetV2 at 224 x 224 is trained first (mobilenet_224.py, half an hour) where the folder has none.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import tempfile
from pathlib import Path

import numpy as np

from ulsam_deploy.cli import main as command
from ulsam_deploy.device.bundle import read_bundle
from ulsam_deploy.device.commands.markdown import table
from ulsam_deploy.device.findings import AutoPoint

ROOT = Path(__file__).parents[1]
COLUMNS = ("recipe", "size", "time / fp32", "error", "least retention", "drop, points", "outside the budget")


def reference(folder: Path, samples: int) -> tuple[Path, Path]:
    """The shipped checkpoint, with its data."""
    from ulsam_deploy.models.digits import cluttered_digits
    from ulsam_deploy.models.reference import evaluation_set

    np.savez(folder / "calibration.npz", x=cluttered_digits("train", 256, 11)[0])
    images, labels = evaluation_set(samples)
    np.savez(folder / "data.npz", x=images, labels=labels)
    return ROOT / "models" / "cluttered_digits.pt", folder / "data.npz"


def diffuse(folder: Path, samples: int) -> tuple[Path, Path]:  # noqa: ARG001
    """A network whose attention is next to uniform, with its data."""
    from diffuse import save

    return save(folder, [1, 3], 112), folder / "data.npz"


def mobilenet(folder: Path, samples: int) -> tuple[Path, Path]:
    """A MobileNetV2 at 224 x 224, with its data."""
    import mobilenet_224

    if not (folder / mobilenet_224.MODEL).exists():
        mobilenet_224.save(folder)
    with np.load(folder / mobilenet_224.DATA) as data:
        np.savez(folder / "some.npz", x=data["x"][:samples], labels=data["labels"][:samples])
    return folder / mobilenet_224.MODEL, folder / "some.npz"


NETWORKS = {"reference": reference, "diffuse": diffuse, "mobilenet": mobilenet}


def row(point: AutoPoint) -> tuple[str, ...]:
    ratio, drop = point.ratio, point.drop
    kept = f", {len(point.keep)} kept" if point.keep else ""
    least = min((value for value in point.retention.values() if value is not None), default=None)
    return (
        point.precision + kept + (" (chosen)" if point.chosen else ""),
        f"{point.size / 1000:.1f} kB",
        f"{ratio.estimate:.2f} ({ratio.low:.2f}-{ratio.high:.2f})",
        "-" if point.error is None else f"{point.error:.2f}x noise",
        "-" if least is None else f"{least:.2f}",
        f"{100 * drop.drop:+.2f} ({100 * drop.low:+.2f} to {100 * drop.high:+.2f})" if drop else "-",
        "; ".join(point.missed) or "no",
    )


def run(name: str, target: str, asked: argparse.Namespace) -> None:
    """One search, in a cache of its own, and its table."""
    with tempfile.TemporaryDirectory() as place:
        folder = (asked.folder or Path(place)) / name
        folder.mkdir(parents=True, exist_ok=True)
        model, data = NETWORKS[name](folder, asked.samples)
        into = Path(place) / "m.bundle"
        words = ["export", str(model), "--target", target, "--precision", "auto", "-o", str(into)]
        words += ["--calibration", str(folder / "calibration.npz"), "--data", str(data)]
        code = command([*words, *(word for limit in asked.limit for word in ("--limit", limit))])
        print(f"\n{name}, {target}, exit {code}")
        if not into.exists():
            return
        for record in read_bundle(into).manifest.artifacts:
            found = record.facts.auto
            assert found
            print(f"\n{found.sentence}.\n\n{table(COLUMNS, [row(point) for point in found.points])}")
            for point in found.points:
                if point.chosen and point.keep:
                    print(f"Kept: {', '.join(point.keep)}.")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--target", default="onnx")
    parser.add_argument("--samples", type=int, default=2000)
    parser.add_argument("--only", choices=tuple(NETWORKS))
    parser.add_argument("--folder", type=Path, help="keep networks and data here, a folder each")
    parser.add_argument("--limit", action="append", default=[])
    arguments = parser.parse_args()
    print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}", file=sys.stderr)
    for name in [arguments.only] if arguments.only else NETWORKS:
        for target in arguments.target.split(","):
            run(name, target, arguments)


if __name__ == "__main__":
    main()
