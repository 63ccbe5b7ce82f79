"""A real small bundle whose manifest has something in every section that a manifest can have."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from ulsam_deploy.device.bundle import MANIFEST, Bundle, Evidence, Manifest, RunFacts
from ulsam_deploy.device.findings import (
    Agreed,
    Agreement,
    AgreementBudget,
    ArtifactFacts,
    AttentionState,
    AutoFacts,
    AutoPoint,
    BlockCheck,
    BudgetLimits,
    CalibrationSet,
    CompiledEngine,
    DlaFacts,
    DlaNode,
    EngineFacts,
    Floor,
    InterpreterRun,
    Interval,
    Latency,
    OutputAgreement,
    OutputCheck,
    Paired,
    PlainRun,
    Quantized,
    Reason,
    ReasonKind,
    Report,
    ResolutionRow,
    Retention,
    Statistic,
    Step,
    StudyFacts,
    TensorRTFacts,
    TunedChoice,
    Verdict,
)
from ulsam_deploy.device.preprocessing import Preprocessing
from ulsam_deploy.device.types import Block, EvidenceLevel, Refusal

from ...handmade import make_bundle

FAULT = Reason("features.1", ReasonKind.ATTENTION_FAULT, "The attention of block 'features.1' is lost.")
FLOOR = Floor(1e-6, 2e-6, 3, 4e-6)
SHAPE = Retention("features.1", 0.9, 0.8, 1.0, AttentionState.KEPT)
REPORT = Report(
    Verdict.FAIL,
    8.0,
    (OutputCheck("y", 0.5, 8.0, FLOOR, "probe 1", Statistic.PEAK, 1.0, "Output 'y' may differ a little."),),
    (BlockCheck("features.1", 0.05, 0.0, 0.1, AttentionState.LOST, 9.0, "", SHAPE, 3.0, SHAPE),),
    0.05,
    (FAULT,),
    (BlockCheck("features.2.se", 0.98, 0.9, 1.06, AttentionState.KEPT, 2.0, "", outputs=SHAPE),),
)
LATENCY = Latency(99, 1.5, 1.0, 1.4, 1.5, 1.6, 1.7, 1.5, 1.6, None, None, batch=2, quantiles=(1.0, 1.5, 1.7))
AGREEMENT = Agreement(
    48,
    AgreementBudget(0.98, 0.25),
    (OutputAgreement("y", 0.3, Agreed(40, 48, 0.698, 0.925), Agreed(29, 30, 0.828, 0.999), Verdict.FAIL),),
)
EVIDENCE = Evidence(
    EvidenceLevel.EXECUTED,
    Verdict.FAIL,
    (FAULT,),
    REPORT,
    LATENCY,
    EngineFacts("Engine", "1.2", 1, "int8", "CPU", layer_precisions={"int8": 4}, details={"signature": True}),
    agreement=AGREEMENT,
    plain=PlainRun("bf16", Verdict.FAIL, 812.5, AGREEMENT),
    interpreters=(
        InterpreterRun("other", Verdict.FAIL, EngineFacts("Other", "3"), 64, 99.5, 99.0, AGREEMENT, "It is off."),
        InterpreterRun("third", Verdict.UNVERIFIED, note="not installed: third"),
    ),
)
POINTS = tuple(
    AutoPoint(
        precision, (), 9000, Verdict.PASS, 0.5, 1e-4, {"features.1": 1.0}, Paired(99, 2, 1, 0.01, -0.01, 0.03, 0.6),
        Interval(ratio, 0.5, 0.7, 6, 1), "", True, ratio < 1, ("error 9",),
    )
    for precision, ratio in (("fp32", 1.0), ("int8", 0.6))
)  # fmt: skip
FACTS = ArtifactFacts(
    operators={"Conv": 3},
    block=(Step("conv2d", "1x8x16x16", (-1,)), Step("mul", "1x8x16x16", (0, -1))),
    lowerings={"features.1": "broadcast"},
    attention="float",
    quantized=Quantized(1, 4, 3),
    keep=("features.0",),
    calibration=CalibrationSet("a" * 64, 9),
    resolution=(ResolutionRow("features.1", 0.5, "float", 1.0, 0.05),),
    suggestions=("Use a wider map.",),
    lint={"orin": ("Softmax runs on the GPU.",)},
    study=StudyFacts(("probe 1",), REPORT, {"y": FLOOR}, {}, (SHAPE,)),
    tensorrt=TensorRTFacts(
        {"10": "trtexec --onnx=model.onnx"},
        "TensorRT 1",
        {"CONVOLUTION": 3},
        {"SM86": CompiledEngine({"Conv": 3}, {"Float": 9}, ("a + b",), "")},
        DlaFacts(1, 9, (DlaNode("Reshape", "n1", "not there"),), (DlaNode("Clip", "n2", "no rule"),)),
    ),
    auto=AutoFacts(BudgetLimits(0.5, 8.0, 0.9, "40 %"), True, "auto chose int8", 5, POINTS),
    tuned=(TunedChoice("8/4 7x7", "dense", Interval(1.0, 0.9, None, 3, 2), False, "slower"),),
    extra={"opset": 18, "exact": True, "share": 0.5, "by": "hand"},
)


def make_full(folder: Path) -> Bundle:
    """The bundle; its artifacts are real, and what is said of them is made up."""
    bundle = make_bundle(folder, width=16, batch=1, targets=("onnx",))
    records = tuple(replace(record, facts=FACTS, evidence=EVIDENCE) for record in bundle.manifest.artifacts)
    card = replace(
        bundle.manifest.model,
        config={"width": 0.35, "insert": (3, 6), "name": "dense", "deep": (1, (2, (None,)))},
        blocks=(Block("features.1", 8, 4, 7, 7),),
        refusals=(Refusal("features.2", "it pools the input"),),
        preprocessing=Preprocessing(),
    )
    run = RunFacts("0.1.0", "3.13", "x86_64", "Linux", {"tflite": "not installed"})
    full = replace(bundle.manifest, model=card, artifacts=records, run=run)
    (folder / MANIFEST).write_text(full.to_json())
    return Bundle(folder, Manifest.from_json(full.to_json()))


def routes(plain: Any, route: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place inside ``plain``; of a list the first item alone."""
    if isinstance(plain, dict):
        inner = [place for key, value in plain.items() for place in routes(value, (*route, key))]
    else:
        inner = routes(plain[0], (*route, 0)) if isinstance(plain, list) and plain else []
    return [route] * bool(route) + inner


def changed(plain: Any, route: tuple[Any, ...], value: Any) -> Any:
    """``plain`` with ``value`` at ``route``."""
    whole = json.loads(json.dumps(plain))
    holder = whole
    for step in route[:-1]:
        holder = holder[step]
    holder[route[-1]] = value
    return whole
