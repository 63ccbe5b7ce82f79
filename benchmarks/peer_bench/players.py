"""A fresh process that plays one artifact: loads it, answers once, and times it with each number of threads.

    python players.py PLAYER FILE FEED.npy SECONDS THREADS[,THREADS]

prints one line of JSON: ``load_ms`` (imports of the engine, and opening the file), ``first_ms``, ``answer`` (the output
of the first call, flat), ``peak_rss`` (bytes, after the first number of threads) and ``times`` (nanoseconds a call, by
number of threads). ``load_ms`` and ``first_ms`` are for the first number of threads.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from ulsam_deploy.device.bench.measure import collect, peak_rss, warm_up
from ulsam_deploy.device.types import TensorSpec

Array = np.ndarray[Any, Any]
#: From a file, the input and a number of threads to a call that returns the output.
Player = Callable[[Path, Array, int], Callable[[], Any]]


def eager(path: Path, feed: Array, threads: int) -> Callable[[], Any]:
    """PyTorch in inference mode."""
    import torch

    torch.set_num_threads(threads)
    model, inputs = torch.load(path, weights_only=False), torch.from_numpy(feed)

    @torch.inference_mode()
    def call() -> Any:
        return model(inputs)

    return call


def compiled(path: Path, feed: Array, threads: int) -> Callable[[], Any]:
    """``torch.compile`` with its own defaults; its cache is warm, as after a first start on this machine."""
    import torch

    torch.set_num_threads(threads)
    torch.compiler.reset()
    model, inputs = torch.compile(torch.load(path, weights_only=False)), torch.from_numpy(feed)

    @torch.inference_mode()
    def call() -> Any:
        return model(inputs)

    return call


def engine(name: str) -> Player:
    """An engine of this project's own runtimes, so that naive and ours are run by the very same code."""

    def play(path: Path, feed: Array, threads: int) -> Callable[[], Any]:
        from ulsam_deploy.device import plugins

        kind = plugins.load(plugins.RUNTIMES, name)
        inputs, outputs = (
            [TensorSpec(spec["name"], tuple(spec["shape"]), spec["dtype"]) for spec in specs]
            for specs in json.loads((path.parent / "made.json").read_text())["ports"]
        )
        if inputs[0].shape != feed.shape:  # ours for TFLite is NHWC, and the file doesn't say so
            feed = np.ascontiguousarray(feed.transpose(0, 2, 3, 1))
        session = kind(kind.files_of(path), inputs, outputs, threads=threads).__enter__()
        run = session.prepared({inputs[0].name: feed})
        return lambda: next(iter(run().values()))

    return play


def ports(player: str, path: Path) -> list[list[dict[str, Any]]]:
    """Inputs and outputs of a file that one of this project's runtimes plays: name, shape and dtype of each."""
    from ulsam_deploy.device import plugins

    if player not in plugins.registered(plugins.RUNTIMES):
        return []
    kind = plugins.load(plugins.RUNTIMES, player)
    with kind(kind.files_of(path), (), ()) as stranger:
        return [[{"name": s.name, "shape": s.shape, "dtype": s.dtype} for s in specs] for specs in stranger.ports()]


def executorch(path: Path, feed: Array, threads: int) -> Callable[[], Any]:
    """ExecuTorch's Python runtime."""
    import torch
    from executorch.extension.pybindings.portable_lib import _unsafe_reset_threadpool
    from executorch.runtime import Runtime

    _unsafe_reset_threadpool(threads)
    method = Runtime.get().load_program(path).load_method("forward")
    assert method is not None
    inputs = [torch.from_numpy(feed)]
    return lambda: method.execute(inputs)[0]


def iree(path: Path, feed: Array, threads: int) -> Callable[[], Any]:
    """IREE's Python runtime: no worker threads for one thread, a pool otherwise."""
    from iree import runtime

    if threads > 1:
        runtime.flags.parse_flags(f"--task_topology_group_count={threads}")
    module = runtime.load_vm_flatbuffer_file(os.fspath(path), driver="local-sync" if threads == 1 else "local-task")
    function = module.main_graph
    return lambda: function(feed).to_host()


PLAYERS: dict[str, Player] = {
    "eager": eager,
    "compiled": compiled,
    "onnxruntime": engine("onnxruntime"),
    "openvino": engine("openvino"),
    "tflite": engine("tflite"),
    "executorch": executorch,
    "iree": iree,
}


def main() -> None:
    """Play what the command line says."""
    answers = os.fdopen(os.dup(1), "w")  # engines print to file descriptor 1 as they please
    os.dup2(2, 1)
    name, path, feed, seconds, threads = sys.argv[1:]
    inputs, said = np.load(feed), dict[str, Any](times={})
    for count in map(int, threads.split(",")):
        began = perf_counter()
        call = PLAYERS[name](Path(path), inputs, count)
        loaded = perf_counter()
        output = np.asarray(call())
        if not said["times"]:
            said.update(load_ms=(loaded - began) * 1e3, first_ms=(perf_counter() - loaded) * 1e3)
            said["answer"] = output.ravel().tolist()
        warm_up(call, 3, float(seconds) / 3)
        said["times"][count] = collect(call, float(seconds), 5).tolist()
        said.setdefault("peak_rss", peak_rss())
    print(json.dumps(said), file=answers, flush=True)
    os._exit(0)  # some engines crash while Python takes them down, after all is said


if __name__ == "__main__":
    main()
