"""Measuring: every sample kept, both limits held, little added to what is timed."""

from __future__ import annotations

import gc
import statistics
import time
from pathlib import Path

import pytest

from ulsam_deploy.device.bench.measure import measure, peak_rss
from ulsam_deploy.device.errors import UsageError


def test_it_stops_after_both_the_least_time_and_the_least_count() -> None:
    calls: list[int] = []
    samples = measure(lambda: calls.append(1), warmup=3, min_seconds=0.0, min_count=50)
    assert samples.times.shape == (50,)
    assert len(calls) == 54  # the first, the warm-up and the samples
    began = time.perf_counter()
    samples = measure(lambda: time.sleep(0.002), warmup=0, min_seconds=0.1, min_count=1)
    assert time.perf_counter() - began >= 0.1
    assert 10 <= len(samples.times) <= 51
    assert samples.times.sum() <= (time.perf_counter() - began) * 1e9


def test_the_first_call_is_kept_apart() -> None:
    delays = iter([0.03] + [0.001] * 20)
    samples = measure(lambda: time.sleep(next(delays)), warmup=0, min_seconds=0.0, min_count=20)
    assert samples.first >= 30e6
    assert statistics.median(samples.times.tolist()) < 20e6
    assert samples.times.min() >= 1e6
    assert samples.summary().count == 20


def test_it_adds_less_than_two_microseconds_to_a_sample() -> None:
    samples = measure(lambda: None, min_seconds=0.05)
    assert statistics.median(samples.times.tolist()) < 2000


def test_the_collector_is_as_it_was_afterwards() -> None:
    def fail() -> None:
        if not gc.isenabled():
            raise RuntimeError("in the timed region")

    with pytest.raises(RuntimeError, match="timed region"):
        measure(fail)
    assert gc.isenabled()


def test_a_measurement_without_samples_is_refused() -> None:
    with pytest.raises(UsageError, match="0 samples"):
        measure(lambda: None, min_count=0)
    with pytest.raises(UsageError, match="-1 warm-up"):
        measure(lambda: None, warmup=-1)


def test_peak_memory_is_what_the_kernel_says_or_unknown(tmp_path: Path) -> None:
    (tmp_path / "status").write_text("Name:\tx\nVmPeak:\t  900 kB\nVmHWM:\t   1234 kB\n")
    assert peak_rss(tmp_path / "status") == 1234 * 1024
    (tmp_path / "status").write_text("VmHWM:\tmany kB\n")
    assert peak_rss(tmp_path / "status") is None
    assert peak_rss(tmp_path / "missing") is None
    before = peak_rss()
    block = bytearray(b"\1") * (64 << 20)
    after = peak_rss()
    assert before is not None
    assert after is not None
    assert after > len(block)
