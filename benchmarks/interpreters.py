"""The table of docs/tflite.md: the accuracy of every file in every TFLite interpreter.

    python benchmarks/interpreters.py [--precisions fp32,int8] [--count 400] [--write]

Needs the extra ``tflm``; tflite-runtime as ``make test-interpreters`` has it, with its Python in
ULSAM_DEPLOY_PYTHON_TFLITE_RUNTIME. The networks are the reference network, and two small ones that are trained here on
the 8 x 8 digits of scikit-learn, with ULSAM and without. Ranges come from 200 training pictures; accuracy is on
pictures that neither training nor calibration has seen.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

import ulsam_deploy
from ulsam_deploy.device.bundle import ArtifactRecord, Bundle
from ulsam_deploy.device.elsewhere.limits import Limits
from ulsam_deploy.device.engines import engines_of
from ulsam_deploy.device.errors import UlsamError
from ulsam_deploy.device.interpreters import in_a_process, python_of
from ulsam_deploy.models.digits import cluttered_digits
from ulsam_deploy.models.ulsam import ULSAM

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "tflite.md"
BEGIN, END = "<!-- made by benchmarks/interpreters.py -->", "<!-- end -->"
CALIBRATED_ON = 200
#: Points of accuracy that two interpreters of one file may differ by.
ALLOWED = 1.0

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Subject:
    """A network, its calibration set, and labelled pictures."""

    name: str
    model: Path | nn.Module
    calibration: Array
    pictures: Array
    labels: Array


def reference(count: int) -> Subject:
    """The trained reference network."""
    calibration = cluttered_digits("train", CALIBRATED_ON, 5)[0]
    pictures, labels = cluttered_digits("test", count, 9)
    return Subject("cluttered_digits", ROOT / "models" / "cluttered_digits.pt", calibration, pictures, labels)


def small(count: int, *, attention: bool) -> Subject:
    """A small network, trained for some seconds."""
    from sklearn.datasets import load_digits

    torch.manual_seed(0)
    digits = load_digits()
    order = np.random.default_rng(0).permutation(len(digits.target))
    pictures = (digits.images[order] / 16).astype(np.float32)[:, None]
    labels = digits.target[order]
    train = len(order) - count

    def block(channels: int, subspaces: int) -> nn.Module:
        return ULSAM(channels, subspaces) if attention else nn.Identity()

    network = nn.Sequential(
        nn.Conv2d(1, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU6(), block(32, 4),
        nn.Conv2d(32, 32, 3, padding=1, groups=32), nn.BatchNorm2d(32), nn.ReLU6(),
        nn.Conv2d(32, 48, 1), nn.BatchNorm2d(48), nn.ReLU6(), block(48, 4), nn.MaxPool2d(2),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(48, 10),
    )  # fmt: skip
    steps = torch.optim.Adam(network.parameters(), 3e-3)
    for _ in range(15):
        for rows in torch.randperm(train).split(64):
            steps.zero_grad()
            found = network(torch.from_numpy(pictures[rows]))
            nn.functional.cross_entropy(found, torch.from_numpy(labels[rows])).backward()
            steps.step()
    name = "8 x 8 digits, ULSAM" if attention else "8 x 8 digits, no attention"
    return Subject(name, network.eval(), pictures[:CALIBRATED_ON], pictures[train:], labels[train:])


def exported(subject: Subject, precisions: tuple[str, ...], folder: Path) -> Bundle:
    """As ``ulsam-deploy export`` makes it."""
    name = "x" if isinstance(subject.model, Path) else "input"
    np.savez(folder / "calibration.npz", **{name: subject.calibration})
    return ulsam_deploy.export(
        subject.model,
        targets="tflite",
        output=folder / "net.bundle",
        precisions=precisions,
        calibration=folder / "calibration.npz" if "int8" in precisions else None,
        inputs=() if isinstance(subject.model, Path) else subject.pictures.shape[1:],
    )


def accuracies(bundle: Bundle, record: ArtifactRecord, subject: Subject) -> Iterator[tuple[str, float | None, str]]:
    """For each interpreter: its name, the accuracy in percent, and why there is none."""
    run = in_a_process(bundle.files(record), record.inputs, record.outputs, Limits())
    for engine in engines_of(record.target):
        here = engine.available()
        if not here.usable and not python_of(engine):
            yield engine.name, None, here.detail
            continue
        try:
            arrays, facts = run(engine, {record.inputs[0].name: subject.pictures})
        except UlsamError as error:
            yield engine.name, None, " ".join(error.found.split())
            continue
        scores = np.asarray(next(iter(arrays.values())))
        yield facts.title, 100 * float((scores.argmax(1) == subject.labels).mean()), ""


def rows(subject: Subject, precisions: tuple[str, ...], folder: Path) -> Iterator[str]:
    """A line for each file, and a list of what was refused below."""
    folder.mkdir()
    bundle = exported(subject, precisions, folder)
    for record in bundle.manifest.artifacts:
        found = list(accuracies(bundle, record, subject))
        known = [share for _, share, _ in found if share is not None]
        apart = max(known) - min(known)
        verdicts = {row.title: row.verdict.value for row in record.evidence.interpreters}
        cells = [_cell(share, why, verdicts.get(name, "")) for name, share, why in found]
        within = "yes" if apart <= ALLOWED else "no"
        yield f"| {subject.name} | {record.precision} | {' | '.join(cells)} | {apart:.2f} | {within} |"


def _cell(share: float | None, why: str, verdict: str) -> str:
    if share is None:
        return f"refused: {_short(why)}"
    return f"{share:.2f} %" + (f", {verdict}" if verdict else "")


def _short(why: str) -> str:
    """The words of the interpreter that say what it lacks."""
    for part in ("Hybrid models are not supported", "Node DEQUANTIZE"):
        if part in why:
            return {"Node DEQUANTIZE": "no float16 in DEQUANTIZE"}.get(part, "dynamic ranges are not supported")
    return why


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--precisions", default="fp32,fp16,int8,int8-dynamic")
    parser.add_argument("--count", type=int, default=400, help="pictures")
    parser.add_argument("--write", action="store_true", help="into docs/tflite.md")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    precisions = tuple(asked.precisions.split(","))
    names = ["LiteRT", "tflite-runtime 2.14", "TFLite Micro"]
    lines = [f"| network | precision | {' | '.join(names)} | points apart | within {ALLOWED:g} |"]
    lines.append(f"|{'---|' * 7}")
    print(*lines, sep="\n", flush=True)
    subjects = (reference(asked.count), small(asked.count, attention=True), small(asked.count, attention=False))
    with tempfile.TemporaryDirectory() as place:
        for number, subject in enumerate(subjects):
            for line in rows(subject, precisions, Path(place) / str(number)):
                lines.append(line)
                print(line, flush=True)
    if asked.write:
        before, rest = PAGE.read_text(encoding="utf-8").split(BEGIN)
        page = "\n\n".join([before + BEGIN, "\n".join(lines), END + rest.split(END)[1]])
        PAGE.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
