"""A bundle's manifest and maps made by hand: one artifact that passes, one that fails, one that nothing ran."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from ulsam_deploy.device.bundle import ArtifactRecord, Evidence, Manifest, ModelCard, RunFacts
from ulsam_deploy.device.bundle.manifest import FileRecord
from ulsam_deploy.device.findings import (
    ArtifactFacts,
    AttentionState,
    BlockCheck,
    EngineFacts,
    Floor,
    Latency,
    OutputCheck,
    Reason,
    ReasonKind,
    Report,
    Statistic,
    Step,
    Verdict,
)
from ulsam_deploy.device.maps import Maps
from ulsam_deploy.device.parity import Golden
from ulsam_deploy.device.types import Block, EvidenceLevel, Refusal, TensorSpec
from ulsam_deploy.report.subject import BundlePart

INPUT, OUTPUT = TensorSpec("x", (1, 3, 32, 32)), TensorSpec("logits", (1, 10))
BLOCKS = {"stage.1": (4, 16, 16), "stage.2": (2, 8, 8)}
FAULT = "The attention of block 'stage.2' is lost: 0.01 of the step was taken (0.00 to 0.02)."
NAIVE = (
    Step("split", "1x8x16x16", (-1,)),
    Step("conv2d", "1x8x16x16", (0,)),
    Step("a_very_long_operator_name", "1x8x16x16", (0,)),
    Step("mul", "1x8x16x16", (1, 2)),
    Step("add", "1x8x16x16", (3, 0)),
)


def parity(verdict: Verdict, alive: float) -> Report:
    words = (AttentionState.KEPT, AttentionState.KEPT if alive > 0.5 else AttentionState.LOST)
    error, floor = 0.5 if alive > 0.5 else 91.0, Floor(1e-6, 2e-6, 3)
    words_of = "Output 'logits' may differ a little."
    output = OutputCheck("logits", error, 8.0, floor, "natural-1", Statistic.L2, 1.0, words_of)
    blocks = tuple(
        BlockCheck(name, value, value - 0.01, value + 0.01, word, 9.0, "")
        for (name, value), word in zip({"stage.1": 1.0, "stage.2": alive}.items(), words)
    )
    return Report(verdict, 8.0, (output,), blocks, alive, ())


def latency(p50: float) -> Latency:
    quantiles = tuple(p50 * (0.9 + 0.2 * i / 40) for i in range(41))
    return Latency(
        99, p50, 0.9 * p50, p50, 1.08 * p50, 1.09 * p50, None, None, None, None, None, batch=1, quantiles=quantiles
    )


def artifact(target: str, evidence: Evidence, **facts: Any) -> ArtifactRecord:
    file = FileRecord(f"{target}/model.{target}", "a" * 64, 1_500_000)
    known = ArtifactFacts(**facts)
    return ArtifactRecord(target, "fp32", "fp32", (file,), (INPUT,), (OUTPUT,), {target: "1.0"}, known, evidence)


def records() -> tuple[ArtifactRecord, ...]:
    step = NAIVE[:2]
    engine = EngineFacts("Engine", "1.2")
    fault = Reason("stage.2", ReasonKind.ATTENTION_FAULT, FAULT)
    why = Reason("trt", ReasonKind.NOT_RUN_NOTE, "Not run here: no driver.")
    good = Evidence(EvidenceLevel.EXECUTED, Verdict.PASS, (), parity(Verdict.PASS, 1.0), latency(2.0), engine)
    bad = Evidence(EvidenceLevel.EXECUTED, Verdict.FAIL, (fault,), parity(Verdict.FAIL, 0.01), latency(1.0), engine)
    none = Evidence(EvidenceLevel.COMPILED, Verdict.UNVERIFIED, (why,))
    return (
        artifact("onnx", good, block=step, operators={"Conv": 3}),
        artifact("tflite", bad, block=step, suggestions=("Use a wider map.",)),
        artifact("trt", none, lint={"jetson-orin-jp6": ("Softmax runs on the GPU.",)}),
    )


def manifest(**changes: Any) -> Manifest:
    card = ModelCard(
        name="digits",
        sha256="b" * 64,
        network="tiny",
        config={},
        inputs=(INPUT,),
        outputs=(OUTPUT,),
        blocks=tuple(Block(name, g * 8, g, h, w) for name, (g, h, w) in BLOCKS.items()),
        refusals=(Refusal("stage.3", "it pools the input"),),
        parameters=1234,
    )
    run = RunFacts(system="Linux", machine="x86_64", left_out={"openvino": "not installed: openvino"})
    made = Manifest(card, records(), FileRecord("golden.npz", "c" * 64, 9), (), run)
    return replace(made, **changes)


def maps(seed: int = 0) -> Maps:
    generator = np.random.default_rng(seed)

    def sums_to_one(g: int, h: int, w: int) -> np.ndarray[Any, Any]:
        raw = generator.gamma(0.3, size=(2, g, h, w))
        whole: np.ndarray[Any, Any] = (raw / raw.sum((2, 3), keepdims=True)).astype(np.float32)
        return whole

    reference = {name: sums_to_one(*shape) for name, shape in BLOCKS.items()}
    near = {name: np.abs(found + 1e-3 * generator.normal(size=found.shape)).astype(np.float32) for name, found in
            reference.items()}  # fmt: skip
    engines = {"onnx fp32": near, "tflite fp32": {"stage.1": near["stage.1"]}}
    return Maps(("natural-0", "natural-1"), BLOCKS, reference, NAIVE, engines, {"trt fp32": "it was not executed here"})


def golden() -> Golden:
    probes = np.random.default_rng(3).normal(size=(3, 3, 32, 32)).astype(np.float32)
    outputs = {"logits": probes.reshape(3, -1)[:, :10].astype(np.float64)}
    controls = [{"logits": outputs["logits"].astype(np.float32)}, {"logits": (outputs["logits"] * (1 + 1e-7))}]
    names = ["constant", "natural-0", "natural-1"]
    return Golden.build({"x": probes}, outputs, [], controls, blocks=(), probes=names)


@pytest.fixture
def subject() -> BundlePart:
    return BundlePart("digits", manifest(), maps(), golden())
