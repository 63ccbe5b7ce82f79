"""The work of a fresh process that times one artifact: load, warm up, and take samples on request.

Standard library, numpy and one engine; device-safe. After the last sample it keeps the network running until the next
request, so that the machine can be observed under load, outside the timed region.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

from ulsam_deploy.device import plugins
from ulsam_deploy.device.arrays import ArrayMap
from ulsam_deploy.device.bench.measure import collect, peak_rss, warm_up
from ulsam_deploy.device.bench.result import pack_samples
from ulsam_deploy.device.elsewhere.jail import noted
from ulsam_deploy.device.elsewhere.worker import meanwhile
from ulsam_deploy.device.findings import EngineFacts
from ulsam_deploy.device.runtime import Runtime
from ulsam_deploy.device.types import TensorSpec

__all__ = [
    "TIMED",
    "Load",
    "Measure",
    "Ready",
    "Rest",
    "Spin",
    "Taken",
    "TimedCalls",
    "load",
    "measure",
    "rest",
    "spin",
]

#: What one sample contains, as written in every result.
TIMED = (
    "one call of the engine with inputs ready in the artifact's own layout, from host arrays to host arrays; "
    "not checking, not changing layouts, not loading"
)


@dataclass(frozen=True)
class Load:
    """Open ``files`` in the engine with the entry point ``runtime``, pinned to ``cpus`` if there are any."""

    runtime: str
    files: tuple[Path, ...]
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    feed: ArrayMap
    threads: int | None
    provider: str
    cpus: tuple[int, ...]
    warmup: int
    warmup_seconds: float


@dataclass(frozen=True)
class Ready:
    """The times of loading and of the first call, and the engine's facts."""

    load_ms: float
    first_ms: float
    facts: EngineFacts


@dataclass(frozen=True)
class Measure:
    """Take samples until both minima are reached."""

    min_seconds: float
    min_count: int


@dataclass(frozen=True)
class Taken:
    """``samples`` as :func:`~ulsam_deploy.device.bench.result.pack_samples` writes them."""

    count: int
    samples: str
    peak_rss: int | None


@dataclass(frozen=True)
class Spin:
    """Let the network run; the answer is the same object."""


@dataclass(frozen=True)
class Rest:
    """Stop the network."""


@dataclass(frozen=True)
class TimedCalls:
    """``count`` calls took ``seconds`` since the previous answer."""

    count: int
    seconds: float


class _Timed:
    """The one artifact of this process."""

    run: Callable[[], object]
    opened = ExitStack()  # until the process is ended
    ran = TimedCalls(0, 0.0)


def load(asked: Load) -> Ready:
    """Load and warm up."""
    if asked.cpus:
        os.sched_setaffinity(0, asked.cpus)
    engine: type[Runtime] = plugins.load(plugins.RUNTIMES, asked.runtime)
    began = perf_counter()
    opened = engine(asked.files, asked.inputs, asked.outputs, threads=asked.threads, provider=asked.provider)
    runtime = _Timed.opened.enter_context(opened)
    took = perf_counter() - began
    _Timed.run = runtime.prepared(asked.feed)
    first = warm_up(_Timed.run, asked.warmup, asked.warmup_seconds)
    return Ready(took * 1e3, first / 1e6, noted(runtime.facts()))


def measure(asked: Measure) -> Taken:
    """Take samples; afterwards the network keeps running until :func:`rest`."""
    times = collect(_Timed.run, asked.min_seconds, asked.min_count)
    meanwhile(_spin)
    return Taken(len(times), pack_samples(times), peak_rss())


def spin(asked: Spin) -> Spin:
    """Let the network run until :func:`rest`."""
    meanwhile(_spin)
    return asked


def rest(_: Rest) -> TimedCalls:
    """The calls since the previous answer."""
    return _Timed.ran


def _spin(waiting: Callable[[], bool]) -> None:
    count, began = 0, perf_counter()
    gc.disable()
    while waiting():
        _Timed.run()
        count += 1
    gc.enable()
    _Timed.ran = TimedCalls(count, perf_counter() - began)
