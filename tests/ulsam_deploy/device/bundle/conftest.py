"""A small sound bundle, for every test of this folder to read or to spoil."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from ulsam_deploy.device.bundle import Bundle, BundleWriter, Evidence, Manifest, ModelCard, RunFacts
from ulsam_deploy.device.findings import (
    ArtifactFacts,
    AttentionState,
    BlockCheck,
    EngineFacts,
    Floor,
    Interval,
    Latency,
    OutputCheck,
    Quantized,
    Reason,
    ReasonKind,
    Report,
    ResolutionRow,
    Retention,
    Statistic,
    TunedChoice,
    Verdict,
)
from ulsam_deploy.device.types import Artifact, Block, EvidenceLevel, Refusal, TensorSpec

INPUT = TensorSpec("image", (None, 3, 8, 8), layout="NHWC")
OUTPUT = TensorSpec("logits", (None, 10))
NOTE = Reason("features.1", ReasonKind.ATTENTION_NOTE, "Note: its map is as good as uniform.")
SHAPE = Retention("features.1", 1.0, 0.0, None, AttentionState.LOST)
REPORT = Report(
    Verdict.PASS,
    8.0,
    (OutputCheck("logits", 0.5, 8.0, Floor(1e-6, 2e-6, 3), "natural-0", Statistic.PEAK, 1.0, "It may differ."),),
    (
        BlockCheck(
            "features.1",
            None,
            None,
            1.1,
            AttentionState.INCONCLUSIVE,
            0.5,
            "hidden",
            Retention("a", 1, 0, None, AttentionState.LOST),
        ),
    ),
    None,
    (NOTE,),
)
LATENCY = Latency(9, 1.5, 1.0, 1.4, 1.5, None, None, None, None, None, None, batch=2, quantiles=(1.0, 1.5))
FACTS = ArtifactFacts(
    operators={"Conv": 3},
    lowerings={"features.1": "broadcast"},
    quantized=Quantized(1, 2, 1),
    keep=("features.0",),
    resolution=(ResolutionRow("features.1", 0.5, "float", 1.0, None),),
    lint={"orin": ("Softmax runs on the GPU.",)},
    tuned=(TunedChoice("8/4 7x7", "dense", Interval(1.0, 0.9, None, 3, 2), False, ""),),
    extra={"opset": 18, "exact": True, "share": 0.5, "by": "hand"},
)


def make_bundle(output: Path, payload: bytes = b"weights") -> Bundle:
    with BundleWriter(output) as writer:
        records = []
        for target, names in (("onnx", ("model.onnx",)), ("openvino", ("model.xml", "model.bin"))):
            (writer.folder / target).mkdir()
            for name in names:
                (writer.folder / target / name).write_bytes(name.encode() + payload)
            made = Artifact(target, "fp32", names, (INPUT,), (OUTPUT,), EvidenceLevel.PARSED, {target: "1.0"}, FACTS)
            evidence = Evidence(
                EvidenceLevel.EXECUTED, Verdict.PASS, (NOTE,), REPORT, LATENCY, EngineFacts("Engine", "1", 1)
            )
            records.append(writer.artifact(made, target, evidence))
        (writer.folder / "golden.npz").write_bytes(b"golden" + payload)
        (writer.folder / "report.html").write_bytes(b"<html>" + payload)
        card = ModelCard(
            name="tiny",
            sha256="0" * 64,
            network="mobilenet_v2",
            config={"width": 1.0, "positions": (1, 2)},
            inputs=(INPUT,),
            outputs=(OUTPUT,),
            blocks=(Block("features.1", 8, 4, 7, 7),),
            refusals=(Refusal("features.2", "pools another tensor"),),
            parameters=123,
        )
        golden, report = writer.record("golden.npz"), writer.record("report.html")
        return writer.commit(Manifest(card, tuple(records), golden, (report,), RunFacts("0.1.0", "3.13.1")))


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return make_bundle(tmp_path / "model.bundle")


@pytest.fixture
def write_bundle() -> Callable[..., Bundle]:
    return make_bundle
