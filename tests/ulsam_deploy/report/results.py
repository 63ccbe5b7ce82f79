"""A result file of the benchmark, made by hand."""

from __future__ import annotations

import numpy as np

from ulsam_deploy.device.bench.result import (
    Cause,
    Comparison,
    Condition,
    Disturbance,
    Machine,
    Measured,
    Process,
    Result,
    Settings,
    Watch,
    pack_samples,
)
from ulsam_deploy.device.bench.statistics import summarize
from ulsam_deploy.device.findings import EngineFacts

SLOWED = Disturbance(Cause.THROTTLING, Condition.DISTURBED, "The processor was slowed down.")


def measured(target: str, milliseconds: float, condition: Condition) -> Measured:
    times = (milliseconds * 1e6 * np.linspace(0.9, 1.2, 700)).astype(np.int64)
    reasons = () if condition is Condition.CLEAN else (SLOWED,)
    watch = Watch(condition, reasons, (), {}, None, {}, None)
    process = Process(0, 0, 10.0, 3.0, 50 << 20, len(times), pack_samples(times), watch)
    engine = EngineFacts("Engine", "1.2", precision="fp32")
    summary = summarize(times)
    return Measured(
        target, "fp32", "d" * 64, 1_500_000, 1, "the engine's call", engine, summary, 1e3 / milliseconds, 10.0, 3.0,
        50 << 20, None, None, condition, (process,),
    )  # fmt: skip


def result(p50: float = 2.0, condition: Condition = Condition.CLEAN, board: str = "Kitchen Pi") -> Result:
    artifacts = (measured("onnx", p50, condition), measured("tflite", 1.5 * p50, condition))
    return Result(
        model="digits",
        sha256="b" * 64,
        tool="ulsam-deploy 0.1.0",
        machine=Machine(board, "Cortex-A76", 4, "aarch64", "Debian 13", "6.12", "3.13", 16384, 8 << 30),
        settings=Settings("quick", 6, 2, 0.1, 0.2, 20, 1, None, (), "golden set"),
        session="c" * 16,
        measured=artifacts,
        comparisons=(Comparison("tflite fp32", "onnx fp32", 1.5, 1.4, 1.6, 0.99, 6),),
        fastest="onnx fp32",
        condition=condition,
        reasons=() if condition is Condition.CLEAN else (SLOWED,),
        left_out={"openvino": "not installed"},
    )
