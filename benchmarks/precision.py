"""The table of docs/precision.md: every target in every precision, for the reference network and MobileNetV2 at 224.

    python benchmarks/precision.py [--rounds 9] [--seconds 0.4] [--only reference|mobilenet] [--folder DIR]

Sizes, retention and verdicts are those of one export. The ratio of times is from one interleaved run, each artifact a
turn in every round, one thread each, with a 95 % interval over rounds; a value below 1 is faster than fp32. Accuracy
is on held-out images. The MobileNetV2 is trained first (mobilenet_224.py, half an hour) where the folder has none.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import platform
import random
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ulsam_deploy.device.bench.intervals import Interval, log_times, paired
from ulsam_deploy.device.bench.measure import measure
from ulsam_deploy.device.bundle import ArtifactRecord, Bundle
from ulsam_deploy.device.commands.words import size, table
from ulsam_deploy.device.engines import runtime_for
from ulsam_deploy.device.errors import UnavailableError
from ulsam_deploy.device.progress import Progress
from ulsam_deploy.device.runtime import Runtime
from ulsam_deploy.exporting.options import ExportOptions
from ulsam_deploy.exporting.pipeline import export
from ulsam_deploy.models.digits import cluttered_digits
from ulsam_deploy.models.reference import evaluation_set

COLUMNS = (
    "target",
    "precision",
    "size",
    "of fp32",
    "time / fp32",
    "accuracy",
    "retention a block",
    "verdict",
    "layers",
)
PRECISIONS = ("fp32", "fp16", "int8", "int8-dynamic")
ROOT = Path(__file__).parents[1]
#: Images (N, C, H, W) and their classes.
Labelled = tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--seconds", type=float, default=0.4)
    parser.add_argument("--only", choices=("reference", "mobilenet"))
    parser.add_argument("--folder", type=Path, help="keep the bundles here")
    asked = parser.parse_args()
    with contextlib.ExitStack() as stack:
        folder = asked.folder or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        folder.mkdir(exist_ok=True)
        print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}")
        for name, make in (("reference", reference), ("mobilenet", mobilenet)):
            if asked.only in (None, name):
                model, samples, images = make(folder)
                bundle = exported(model, samples, folder / f"{name}.bundle")
                print(f"\n{bundle.manifest.model.name}\n\n{table(COLUMNS, list(rows(bundle, asked, images)))}")
                for record in bundle.manifest.artifacts:
                    for reason in record.evidence.reasons:
                        print(f"{record.target} {record.precision}: {reason}", file=sys.stderr)


def reference(folder: Path) -> tuple[Path, Path, Labelled]:
    """The trained reference network, training images to calibrate on, and labelled ones."""
    samples = folder / "digits.npz"
    np.savez(samples, x=cluttered_digits("train", 256, 100)[0])
    return ROOT / "models" / "cluttered_digits.pt", samples, evaluation_set()


def mobilenet(folder: Path) -> tuple[Path, Path, Labelled]:
    """A MobileNetV2 with ULSAM at 224, as :mod:`mobilenet_224` trains it."""
    import mobilenet_224

    model = folder / mobilenet_224.MODEL
    if not model.exists():
        mobilenet_224.save(folder)
    with np.load(folder / mobilenet_224.DATA) as data:
        return model, folder / mobilenet_224.CALIBRATION, (data["x"], data["labels"])


def exported(model: Path, samples: Path, into: Path) -> Bundle:
    """All targets in all precisions that they have."""
    found = export(ExportOptions(model, output=into, precisions=PRECISIONS, calibration=samples), Progress())
    assert found.bundle is not None
    return found.bundle


def rows(bundle: Bundle, asked: argparse.Namespace, images: Labelled) -> Iterator[tuple[str, ...]]:
    """A line for each artifact."""
    for target in dict.fromkeys(record.target for record in bundle.manifest.artifacts):
        records = [record for record in bundle.manifest.artifacts if record.target == target]
        whole = next(sum(file.size for file in r.files) for r in records if r.precision == "fp32")
        times = ratios(bundle, records, asked)
        for record in records:
            count = sum(file.size for file in record.files)
            blocks = record.evidence.parity.blocks if record.evidence.parity else ()
            yield (
                target,
                record.precision,
                size(count),
                f"{count / whole:.2f}",
                times.get(record.precision, "-"),
                accuracy(bundle, record, images),
                " ".join("?" if b.retention is None else f"{b.retention:.2f}" for b in blocks) or "-",
                record.evidence.verdict.value,
                layers(record),
            )


def layers(record: ArtifactRecord) -> str:
    """What the engine says its layers compute in."""
    found = record.evidence.engine.layer_precisions if record.evidence.engine else {}
    return " ".join(f"{name} {count}" for name, count in found.items()) or "-"


def opened(bundle: Bundle, record: ArtifactRecord) -> Runtime:
    return runtime_for(record.target)(bundle.files(record), record.inputs, record.outputs, threads=1)


def ratios(bundle: Bundle, records: list[ArtifactRecord], asked: argparse.Namespace) -> dict[str, str]:
    """Median time over that of fp32, by precision, from rounds in which every artifact has a turn in random order."""
    times: dict[str, list[np.ndarray[Any, Any]]] = {record.precision: [] for record in records}
    with contextlib.ExitStack() as stack:
        try:
            runs = {}
            for record in records:
                session = stack.enter_context(opened(bundle, record))
                feed = {s.name: np.zeros([n or 1 for n in s.shape], s.dtype) + np.float32(0.5) for s in record.inputs}
                runs[record.precision] = session.prepared(feed)
        except UnavailableError:
            return {}
        turns = list(runs)
        for _ in range(asked.rounds):
            random.shuffle(turns)
            for precision in turns:
                samples = measure(runs[precision], warmup=3, min_seconds=asked.seconds, min_count=5)
                times[precision].append(np.asarray(samples.times, float))
    found = {}
    for precision in turns:
        interval = paired(log_times(times[precision]) - log_times(times["fp32"]))
        found[precision] = words(interval)
    return found


def words(interval: Interval) -> str:
    """The ratio, and its interval where there were rounds enough for one."""
    known = interval.low is not None and interval.high is not None
    return f"{interval.estimate:.2f}" + (f" ({interval.low:.2f} - {interval.high:.2f})" if known else "")


def accuracy(bundle: Bundle, record: ArtifactRecord, images: Labelled) -> str:
    """The share of right labels on ``images``, where an engine is here."""
    try:
        with opened(bundle, record) as session:
            inputs, labels = images
            name = record.inputs[0].name
            guesses = [next(iter(session.run({name: image[None]}).values())).argmax() for image in inputs]
            return f"{np.mean(np.array(guesses) == labels):.4f}"
    except UnavailableError:
        return "-"


if __name__ == "__main__":
    main()
