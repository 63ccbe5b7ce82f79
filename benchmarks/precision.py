"""The table of docs/precision.md: every target in every precision, for the reference network and MobileNetV2 at 224.

    python benchmarks/precision.py [--rounds 9] [--seconds 0.4] [--only reference|mobilenet] [--folder DIR]

Sizes, liveness and verdicts are those of one export. The ratio of times is from one interleaved run, each artifact a
turn in every round, one thread each, with a 95 % interval over rounds; a value below 1 is faster than fp32. Accuracy
is on images that nothing was fitted to. The MobileNetV2 has random features and a classifier fitted to ten kinds of
pictures: with a random classifier too, outputs hardly depend on the input, and no check could conclude anything.
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

from ulsam_deploy.bench import measure
from ulsam_deploy.bench.intervals import Interval, log_times, paired
from ulsam_deploy.bundle import ArtifactRecord, Bundle
from ulsam_deploy.cli.words import size, table
from ulsam_deploy.contracts import Runtime
from ulsam_deploy.errors import UnavailableError
from ulsam_deploy.evidence import runtime_for
from ulsam_deploy.models.digits import cluttered_digits
from ulsam_deploy.models.reference import evaluation_set
from ulsam_deploy.options import ExportOptions
from ulsam_deploy.pipeline import export
from ulsam_deploy.progress import Progress

COLUMNS = ("target", "precision", "size", "of fp32", "time / fp32", "accuracy", "liveness a block", "verdict", "layers")
PRECISIONS = ("fp32", "fp16", "int8", "int8-dynamic")
ROOT = Path(__file__).parents[1]
#: Of pictures for the MobileNetV2.
KINDS = 10

Array = np.ndarray[Any, Any]
#: Images (N, C, H, W) and their labels (N,).
Labelled = tuple[Array, Array]


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
    """The trained reference network, training images to calibrate on, and the evaluation images."""
    samples = folder / "digits.npz"
    np.savez(samples, x=cluttered_digits("train", 256, 100)[0])
    return ROOT / "models" / "cluttered_digits.pt", samples, evaluation_set()


def mobilenet(folder: Path) -> tuple[Path, Path, Labelled]:
    """A MobileNetV2 with ULSAM at 224 whose classifier alone is fitted; pictures to calibrate on, and others."""
    import torch

    from ulsam_deploy import checkpoint, plugins

    network = plugins.load(plugins.MODELS, "mobilenet_v2")
    config = {**network.named()["mobilenet_v2_ulsam_sub_13_16"], "classes": KINDS}
    torch.manual_seed(0)
    model = network.build(config)
    pictures, labels = kinds(768)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = None  # the plain average: exactly those of this batch
    with torch.no_grad():
        model.train()(torch.from_numpy(pictures[:32]))
    fit(model.eval(), pictures[:256], labels[:256])
    checkpoint.write(folder / "mobilenet.pt", model, network, config, (3, 224, 224))
    np.savez(folder / "pictures.npz", x=pictures[256:384])
    return folder / "mobilenet.pt", folder / "pictures.npz", (pictures[384:], labels[384:])


def fit(model: Any, pictures: Array, labels: Array) -> None:
    """Ridge regression of the last linear layer on what it reads, to one for the right kind and zero for the others."""
    import torch

    last = [module for module in model.modules() if isinstance(module, torch.nn.Linear)][-1]
    seen: list[Any] = []
    hook = last.register_forward_hook(lambda _module, inputs, _output: seen.append(inputs[0]))
    with torch.no_grad():
        for start in range(0, len(pictures), 16):
            model(torch.from_numpy(pictures[start : start + 16]))
        hook.remove()
        features = torch.cat(seen).double()
        middle = features.mean(0)
        gram = (features - middle) @ (features - middle).T
        gram += 1e-2 * gram.diagonal().mean() * torch.eye(len(gram))
        wanted = torch.nn.functional.one_hot(torch.from_numpy(labels), last.out_features).double()
        weight = torch.linalg.solve(gram, wanted - wanted.mean(0)).T @ (features - middle)
        last.weight.copy_(weight)
        last.bias.copy_(wanted.mean(0) - weight @ middle)


def kinds(count: int) -> tuple[Array, Array]:
    """Pictures (N, 3, 224, 224) of :data:`KINDS` kinds, float32, and which: each a pattern of its own in noise."""
    draw = np.random.default_rng(0)
    labels = draw.integers(KINDS, size=count)
    patterns = smooth(draw, KINDS)
    return np.concatenate([0.6 * patterns[[label]] + 0.8 * smooth(draw, 1) for label in labels]), labels


def smooth(draw: np.random.Generator, count: int) -> Array:
    """Pictures (N, 3, 224, 224) whose energy falls with frequency as that of photographs does."""
    frequency = np.hypot(np.fft.fftfreq(224)[:, None], np.fft.rfftfreq(224)[None, :])
    spectrum = draw.normal(size=(count, 3, 224, 113)) / np.maximum(frequency, 1 / 224)
    found = np.fft.irfft2(spectrum * np.exp(2j * np.pi * draw.uniform(size=spectrum.shape)), s=(224, 224))
    return np.asarray(found / found.std((2, 3), keepdims=True), np.float32)


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
            blocks = (record.evidence.parity or {}).get("blocks", [])
            yield (
                target,
                record.precision,
                size(count),
                f"{count / whole:.2f}",
                times.get(record.precision, "-"),
                accuracy(bundle, record, images),
                " ".join(f"{b['liveness']:.2f}" if b["liveness"] is not None else "?" for b in blocks) or "-",
                record.evidence.verdict.value,
                layers(record),
            )


def layers(record: ArtifactRecord) -> str:
    """What the engine says its layers compute in."""
    found = record.evidence.engine.get("layer_precisions", {})
    return " ".join(f"{name} {count}" for name, count in found.items()) or "-"


def opened(bundle: Bundle, record: ArtifactRecord) -> Runtime:
    return runtime_for(record.target)(bundle.files(record), record.inputs, record.outputs, threads=1)


def ratios(bundle: Bundle, records: list[ArtifactRecord], asked: argparse.Namespace) -> dict[str, str]:
    """Median time over that of fp32, by precision, from rounds in which every artifact has a turn in random order."""
    times: dict[str, list[Array]] = {record.precision: [] for record in records}
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
