"""Records this machine's noise: the same artifact timed in many fresh processes, one after another.

    python benchmarks/record_noise.py model.onnx noise.npz [--rounds 240] [--samples 128]

``noise.npz`` holds ``times`` (rounds, samples) in microseconds, float32, and ``started`` (rounds,) in seconds: what
``gate_power.py`` draws from. One ONNX Runtime thread, twenty warm-up runs a process.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

ROUND = """
import sys
from time import perf_counter_ns as clock
import numpy as np
import onnxruntime as ort

options = ort.SessionOptions()
options.intra_op_num_threads = options.inter_op_num_threads = 1
session = ort.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])
shapes = {port.name: [size if isinstance(size, int) else 1 for size in port.shape] for port in session.get_inputs()}
feed = {name: np.zeros(shape, np.float32) for name, shape in shapes.items()}
times = []
for _ in range(20):
    session.run(None, feed)
for _ in range(int(sys.argv[2])):
    began = clock()
    session.run(None, feed)
    times.append(clock() - began)
sys.stdout.write(" ".join(map(str, times)))
"""


def one_round(model: Path, samples: int) -> list[float]:
    """The times of one fresh process in microseconds."""
    command = [sys.executable, "-c", ROUND, str(model), str(samples)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return [int(word) / 1e3 for word in done.stdout.split()]


def main() -> None:
    """Record, and write what there is when interrupted."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--rounds", type=int, default=240)
    parser.add_argument("--samples", type=int, default=128)
    arguments = parser.parse_args()
    times: list[list[float]] = []
    started: list[float] = []
    try:
        for _ in range(arguments.rounds):
            started.append(time.monotonic())
            times.append(one_round(arguments.model, arguments.samples))
    except KeyboardInterrupt:
        pass
    np.savez_compressed(arguments.output, times=np.float32(times), started=np.array(started[: len(times)]))


if __name__ == "__main__":
    main()
