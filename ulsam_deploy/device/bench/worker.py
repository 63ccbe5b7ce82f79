"""The fresh process that times one artifact: loads, warms up, and takes samples when it is told to.

Standard library, numpy and one engine; device-safe. It talks in lines of JSON: a job comes in, ``ready`` goes out, and
then each ``measure`` or ``spin`` is answered. After the last sample it keeps the network running until the next line
comes, so that whoever watches the machine sees it under load, outside the timed region.
"""

from __future__ import annotations

import base64
import gc
import io
import json
import os
import select
import sys
from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import Any, TextIO

from ulsam_deploy.device import codec, plugins
from ulsam_deploy.device.bench.measure import collect, peak_rss, warm_up
from ulsam_deploy.device.bench.result import pack_samples
from ulsam_deploy.device.errors import UlsamError
from ulsam_deploy.device.npz import read_arrays
from ulsam_deploy.device.runtime import Runtime
from ulsam_deploy.device.types import TensorSpec

#: What one sample contains, as written in every result.
TIMED = (
    "one call of the engine with inputs ready in the artifact's own layout, from host arrays to host arrays; "
    "not checking, not changing layouts, not loading"
)


def main() -> None:
    """Do the job that comes in on stdin; a known error goes out as an answer."""
    # Engines print to file descriptor 1 as they please: answers get one of their own.
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    try:
        _serve(json.loads(sys.stdin.readline()), answers)
    except UlsamError as error:
        told = {"found": error.found, "expected": error.expected, "todo": error.todo, "exit_code": int(error.exit_code)}
        _answer(answers, {"error": told})


def _serve(job: dict[str, Any], answers: TextIO) -> None:
    if job["cpus"]:
        os.sched_setaffinity(0, job["cpus"])
    engine: type[Runtime] = plugins.load(plugins.RUNTIMES, job["runtime"])
    ports = (
        [TensorSpec(**{**spec, "shape": tuple(spec["shape"])}) for spec in job[kind]] for kind in ("inputs", "outputs")
    )
    began = perf_counter()
    with engine([Path(file) for file in job["files"]], *ports, threads=job["threads"]) as runtime:
        load = perf_counter() - began
        run = runtime.prepared(read_arrays(io.BytesIO(base64.b64decode(job["feed"]))))
        first = warm_up(run, job["warmup"], job["warmup_seconds"])
        facts = codec.encode(runtime.facts(), "what the engine tells")
        _answer(answers, {"load_ms": load * 1e3, "first_ms": first / 1e6, "facts": facts})
        while line := sys.stdin.readline():
            words = json.loads(line)
            if words["do"] == "measure":
                times = collect(run, words["min_seconds"], words["min_count"])
                _answer(answers, {"count": len(times), "samples": pack_samples(times), "peak_rss": peak_rss()})
            _answer(answers, _spin(run))


def _spin(run: Callable[[], object]) -> dict[str, Any]:
    """Call ``run`` until a line comes in; how often and for how long."""
    count, began = 0, perf_counter()
    gc.disable()
    while not select.select([0], [], [], 0)[0]:
        run()
        count += 1
    gc.enable()
    sys.stdin.readline()
    return {"count": count, "seconds": perf_counter() - began}


def _answer(answers: TextIO, words: dict[str, object]) -> None:
    answers.write(json.dumps(words) + "\n")


if __name__ == "__main__":
    main()
