"""What the gate finds, and how often it cries wolf, under recorded noise.

    python benchmarks/record_noise.py model.onnx noise.npz
    python benchmarks/gate_power.py noise.npz [--rounds 32] [--runs 1000] [--samples 64]

Each run takes a stretch of the record, deals its processes out to two equal builds A B B A, makes one of them slower by
nothing or by ``--slower`` percent, and asks the very code of ``ulsam-deploy compare``. Printed for each allowed
regression: how often the slower build failed, and how often the equal one did.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ulsam_deploy.device.bench.intervals import Interval, log_times, paired
from ulsam_deploy.gate.figures import UNDISTURBED


def deal(times: np.ndarray[Any, Any], rounds: int, runs: int, seed: int = 0) -> Iterator[Interval]:
    """Intervals of equal builds: ``times`` (processes, samples) in the order in which they were recorded."""
    generator = np.random.default_rng(seed)
    level = log_times(list(times), UNDISTURBED)
    for _ in range(runs):
        start = generator.integers(len(level))
        pairs = level[(start + np.arange(2 * rounds)) % len(level)].reshape(rounds, 2)
        forwards = np.arange(rounds) % 2 == generator.integers(2)
        yield paired(np.where(forwards, pairs[:, 1] - pairs[:, 0], pairs[:, 0] - pairs[:, 1]))


def shares(intervals: list[Interval], slower: float, allowed: float) -> tuple[float, float]:
    """The shares of runs in which a build ``slower`` by this much fails, and an equal one does.

    A slower build's interval is an equal build's, moved: every sample is multiplied, and logarithms add.
    """
    lows = [math.log(interval.low) if interval.low is not None else -math.inf for interval in intervals]
    limit = math.log1p(allowed)
    found = sum(low + math.log1p(slower) > limit for low in lows) / len(lows)
    wolf = sum(low > limit for low in lows) / len(lows)
    return found, wolf


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("noise", type=Path)
    parser.add_argument("--rounds", type=int, nargs="+", default=[8, 16, 24, 32, 48])
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--samples", type=int, default=64)
    parser.add_argument("--slower", type=float, default=5.0, metavar="PERCENT")
    arguments = parser.parse_args()
    times = np.load(arguments.noise)["times"][:, : arguments.samples]
    print(f"{len(times)} processes recorded, {times.shape[1]} samples each")
    print("rounds  allowed  slower build fails  equal build fails")
    for rounds in arguments.rounds:
        intervals = list(deal(times, rounds, arguments.runs))
        for allowed in (0.0, 0.01, 0.02):
            found, wolf = shares(intervals, arguments.slower / 100, allowed)
            print(f"{rounds:6}  {allowed:6.0%}  {found:18.1%}  {wolf:17.1%}", flush=True)


if __name__ == "__main__":
    main()
