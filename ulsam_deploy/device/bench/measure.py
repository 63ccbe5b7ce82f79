"""Times a callable, with every sample, and reads the process's peak memory.

Standard library and numpy only; device-safe.
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter_ns

import numpy as np
import numpy.typing as npt

from ulsam_deploy.device.bench.statistics import Summary, summarize
from ulsam_deploy.device.errors import UsageError

__all__ = ["Samples", "collect", "measure", "peak_rss", "warm_up"]


@dataclass(frozen=True)
class Samples:
    """All times, in nanoseconds and in order. ``first`` is the very first call, which includes lazy initialisation."""

    first: int
    times: npt.NDArray[np.int64]

    def summary(self) -> Summary:
        """Percentiles in milliseconds, of the steady samples only."""
        return summarize(self.times)


def measure(run: Callable[[], object], *, warmup: int = 5, min_seconds: float = 0.5, min_count: int = 64) -> Samples:
    """Call ``run`` repeatedly until both ``min_seconds`` have passed and ``min_count`` samples are taken.

    One call of ``run`` is timed, nothing else; the caller documents what it includes (a copy to the device, a layout
    conversion). The first call and ``warmup`` more aren't samples. Python's cycle collector is off meanwhile, as in the
    standard library's ``timeit``, because it would add the garbage of many samples to one. 64 samples are the fewest
    that give a p90 (see :func:`~ulsam_deploy.device.bench.statistics.early_stopping`). Raises
    :class:`UsageError` for a count below 1; what ``run`` raises passes through.
    """
    if min_count < 1 or warmup < 0:
        raise UsageError(f"{min_count} samples after {warmup} warm-up calls", expected="at least 1 sample, 0 warm-up")
    first = warm_up(run, warmup)
    return Samples(first, collect(run, min_seconds, min_count))


def warm_up(run: Callable[[], object], count: int, seconds: float = 0.0) -> int:
    """Nanoseconds of the very first call of ``run``; then it is called ``count`` times more, and for ``seconds``."""
    began = perf_counter_ns()
    run()
    first = perf_counter_ns() - began
    deadline = perf_counter_ns() + int(seconds * 1e9)
    while count > 0 or perf_counter_ns() < deadline:
        run()
        count -= 1
    return first


def collect(run: Callable[[], object], min_seconds: float, min_count: int) -> npt.NDArray[np.int64]:
    """The samples of :func:`measure` alone, in nanoseconds and in order."""
    clock, times = perf_counter_ns, list[int]()
    collecting = gc.isenabled()
    gc.disable()
    try:
        stopped = clock()
        deadline = stopped + int(min_seconds * 1e9)
        while stopped < deadline or len(times) < min_count:
            began = clock()
            run()
            stopped = clock()
            times.append(stopped - began)
    finally:
        if collecting:
            gc.enable()
    return np.array(times, dtype=np.int64)


def peak_rss(status: Path = Path("/proc/self/status")) -> int | None:
    """The peak resident memory of this process in bytes (Linux ``VmHWM``); ``None`` if it is not reported."""
    try:
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError, IndexError):
        pass
    return None
