"""Results made up to the last sample: for tests of the file, the gate, and what is said of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ulsam_deploy.device.bench.result import (
    Cause,
    Condition,
    Disturbance,
    Energy,
    Machine,
    Measured,
    Parity,
    Process,
    Reading,
    Result,
    Settings,
    Watch,
    pack_samples,
)
from ulsam_deploy.device.bench.statistics import summarize
from ulsam_deploy.device.benchmark import compared
from ulsam_deploy.device.findings import EngineFacts, Verdict

PI = Machine("Raspberry Pi 5 Model B Rev 1.0", "Cortex-A76", 4, "aarch64", "Debian", "6.6", "3.11.2", 16384, 8 << 30)
THROTTLED = Disturbance(Cause.THROTTLING, Condition.DISTURBED, "Throttled happened once.")
NO_CLOCKS = Disturbance(Cause.CLOCK, Condition.UNKNOWN, "Nothing here tells a clock.")
BUSY = Disturbance(Cause.LOAD, Condition.DISTURBED, "Other programs used 40% of all cores.")


def watch(*reasons: Disturbance, governor: str = "performance") -> Watch:
    conditions = [reason.condition for reason in reasons]
    worst = next((c for c in (Condition.DISTURBED, Condition.UNKNOWN) if c in conditions), Condition.CLEAN)
    readings = (Reading("cpu-thermal", "temperature", 50.0, 60.5, 80.0),)
    return Watch(worst, reasons, readings, {"throttled": 0}, None, {"policy0": governor}, 0.01)


def noisy(rounds: int, seed: int, scale: float = 1.0) -> list[npt.NDArray[np.int64]]:
    """Times of ``rounds`` processes around 1 ms, each process and each sample 1 % off."""
    generator = np.random.default_rng(seed)
    places = 1e6 * scale * np.exp(generator.normal(0, 0.01, rounds))
    return [(place * np.exp(np.abs(generator.normal(0, 0.01, 40)))).astype(np.int64) for place in places]


def measured(
    times: Sequence[npt.NDArray[np.int64]], *reasons: Disturbance, target: str = "onnx", **changed: Any
) -> Measured:
    look = watch(*reasons)
    processes = tuple(
        Process(turn, 0, 12.5, 3.25, 50_000_000, len(each), pack_samples(each), look) for turn, each in enumerate(times)
    )
    every = np.concatenate(times)
    one = Measured(
        target=target,
        precision="fp32",
        sha256="1" * 64,
        size=1_500_000,
        batch=1,
        timed="one call",
        engine=EngineFacts("ONNX Runtime", "1.31.1"),
        latency=summarize(every),
        throughput=1e9 / float(every.mean()),
        load_ms=12.5,
        first_ms=3.25,
        peak_rss=50_000_000,
        energy=Energy("a sensor", 3.0, 5.0, 0.002, 5.0, 50),
        parity=Parity(Verdict.PASS, 2.5, 0.99),
        condition=look.condition,
        processes=processes,
    )
    return dataclasses.replace(one, **changed)


def result(*ones: Measured, session: str = "0" * 16, machine: Machine = PI, **settings: Any) -> Result:
    plain = Settings("default", len(ones[0].processes), 5, 0.5, 10.0, 662, 1, None, (), "probes")
    comparisons, fastest = compared(ones)
    return Result(
        model="digits",
        sha256="a" * 64,
        tool="ulsam-deploy 0.1.0",
        session=session,
        machine=machine,
        settings=dataclasses.replace(plain, **settings),
        measured=ones,
        comparisons=comparisons,
        fastest=fastest,
        condition=ones[0].condition,
        reasons=tuple(reason for one in ones for reason in one.processes[0].watch.reasons),
        left_out={},
    )
