"""The engines of a target, and what an open artifact gives for a set of probes. numpy only; device-safe."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from ulsam_deploy.device import plugins
from ulsam_deploy.device.arrays import Array
from ulsam_deploy.device.errors import UnavailableError
from ulsam_deploy.device.invocation import command
from ulsam_deploy.device.runtime import Runtime

__all__ = ["batches_of", "engines_of", "produce", "runtime_for"]


def engines_of(target: str) -> tuple[type[Runtime], ...]:
    """Every engine that opens artifacts of ``target``, whether it can run here or not; the preferred one is first."""
    engines: dict[str, type[Runtime]] = plugins.loaded(plugins.RUNTIMES)
    found = (engine for engine in engines.values() if engine.target == target)
    return tuple(sorted(found, key=lambda engine: engine.preference))


def runtime_for(target: str) -> type[Runtime]:
    """The engine that runs artifacts of ``target``; raises :class:`UnavailableError` when none can run here."""
    reasons = []
    for engine in engines_of(target):
        here = engine.available()
        if here.usable:
            return engine
        reasons.append(here)
    raise UnavailableError(
        f"no engine here can run '{target}' artifacts" + (f": {reasons[0].detail}" if reasons else ""),
        todo=reasons[0].todo if reasons and reasons[0].todo else f"to see what can run here: {command('doctor')}",
    )


def produce(runtime: Runtime, inputs: Mapping[str, Array]) -> dict[str, Array]:
    """The outputs of ``runtime`` on ``inputs``, both ``(P, ...)`` by name; a dynamic batch is run in several sizes."""
    count = len(next(iter(inputs.values())))
    parts = [
        runtime.run({spec.name: inputs[spec.name][chosen] for spec in runtime.inputs})
        for chosen in batches_of(count, runtime.inputs[0].shape[0])
    ]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def batches_of(count: int, size: int | None) -> Iterator[slice]:
    """How ``count`` probes are split into batches: of the artifact's ``size``, or of several if that is dynamic."""
    sizes = [size] if size else [1, 3, 4]
    start = turn = 0
    while start < count:
        rows = sizes[turn % len(sizes)]
        yield slice(start, start + rows)
        start, turn = start + rows, turn + 1
