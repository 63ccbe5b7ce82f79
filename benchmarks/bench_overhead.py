"""What ``bench`` adds to a sample, beside the raw call of the engine.

    python benchmarks/bench_overhead.py [--rounds 100] [--samples 2000]

A network of one ReLU, so small that the engine's call takes microseconds, in turns: the engine called as its own
documentation says, with the clock read around ten calls, and as ``bench`` calls and times it, sample by sample. Printed
is the difference a call, and what an empty call costs in the timing loop. One ONNX Runtime thread.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path
from time import perf_counter_ns as clock

import numpy as np

from ulsam_deploy.device import plugins
from ulsam_deploy.device.bench.measure import collect
from ulsam_deploy.device.types import TensorSpec


def raw(run: Callable[[], object], count: int) -> float:
    """Nanoseconds a call, from each call's own pair of clock readings kept out: the shortest of small batches."""
    best = float("inf")
    for _ in range(count // 10):
        began = clock()
        for _ in range(10):
            run()
        best = min(best, (clock() - began) / 10)
    return best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--samples", type=int, default=2000)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        compare(smallest(Path(folder) / "model.onnx"), arguments.rounds, arguments.samples)


def smallest(path: Path) -> Path:
    """One ReLU of eight numbers."""
    from onnx import TensorProto, helper

    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 8]) for name in "xy")
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "relu", [x], [y])
    opset = [helper.make_opsetid("", 17)]
    path.write_bytes(helper.make_model(graph, opset_imports=opset, ir_version=8).SerializeToString())
    return path


def compare(model: Path, rounds: int, samples: int) -> None:
    engine = plugins.load(plugins.RUNTIMES, "onnxruntime")
    empty = [float(np.median(collect(lambda: None, 0.0, 2000))) for _ in range(rounds)]
    with engine([model], (), (), threads=1) as probe:
        inputs, outputs = probe.ports()
    specs = tuple(TensorSpec(s.name, tuple(size or 1 for size in s.shape), s.dtype) for s in inputs)
    feed = {spec.name: np.zeros([size or 1 for size in spec.shape], spec.dtype) for spec in specs}
    with engine([model], inputs, outputs, threads=1) as runtime:
        session, names = runtime._session, [spec.name for spec in outputs]
        ours = runtime.prepared(feed)
        added, plains = [], []
        for turn in range(rounds):
            sides = [
                lambda: raw(lambda: session.run(names, feed), samples),
                lambda: _shortest(collect(ours, 0.0, samples)),
            ]
            first, second = sides if turn % 2 == 0 else sides[::-1]
            one, other = first(), second()
            plain, timed = (one, other) if turn % 2 == 0 else (other, one)
            added.append(timed - plain)
            plains.append(plain)
    low, high = np.quantile(added, [0.05, 0.95])
    print(f"an empty call in the timing loop: {statistics.median(empty):.0f} ns")
    print(f"the raw call of the engine: {statistics.median(plains):.0f} ns")
    print(
        f"beside it: {statistics.median(added):+.0f} ns a sample ({low:+.0f} to {high:+.0f} in 90 % of {rounds} turns)"
    )


def _shortest(times: np.ndarray) -> float:  # type: ignore[type-arg]
    """The shortest mean of ten consecutive samples: what :func:`raw` takes of the other side."""
    return float(times[: len(times) // 10 * 10].reshape(-1, 10).mean(axis=1).min())


if __name__ == "__main__":
    main()
