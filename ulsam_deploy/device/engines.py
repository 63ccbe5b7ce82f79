"""The engines of a target, and what an open artifact gives for a set of probes. numpy only; device-safe."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from ulsam_deploy.device import plugins
from ulsam_deploy.device.arrays import Array
from ulsam_deploy.device.errors import UlsamError, UnavailableError
from ulsam_deploy.device.invocation import command
from ulsam_deploy.device.runtime import Runtime

__all__ = ["LARGEST", "batches_of", "engines_of", "produce", "runtime_for"]

#: The sizes that a dynamic batch is run in: every place among this many images is looked at, and among the largest.
_SIZES, LARGEST = (1, 2, 5, 15), 33
#: What the order of sums may change of an output, relative to its size.
_ORDER = 1e-5
#: Where an input is run again, if two places in batches disagree about it: the batch's size, and the place in it.
_ELSEWHERE = ((2, 0), (3, 1))


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
    """The outputs of ``runtime`` on ``inputs``, both ``(P, ...)`` by name; a dynamic batch is run in several sizes.

    Of a dynamic batch, one larger than all others is run as well, whose last rows no other has. Where an output differs
    in the two, the one counts that the same input elsewhere in a batch does not have: that place is the faulty one.
    """
    count, batch = len(next(iter(inputs.values()))), runtime.inputs[0].shape[0]

    def run(rows: slice | Array) -> dict[str, Array]:
        return runtime.run({spec.name: inputs[spec.name][rows] for spec in runtime.inputs})

    parts = [run(chosen) for chosen in batches_of(count, batch)]
    found = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    if not batch:
        again = np.arange(-_SIZES[-1], LARGEST - _SIZES[-1]) % count  # the first probes come where no batch reached
        try:
            late = run(again)
        except UlsamError:  # its maker's capture may have bounded the batch: torch.export does, below 16 here
            return found
        if any(late[name].shape != (LARGEST, *array.shape[1:]) for name, array in found.items()):
            return found  # an output without the batch's size is refused anyway
        for place, probe in list(enumerate(again))[_SIZES[-1] :]:
            rows = {name: (array[probe], late[name][place]) for name, array in found.items()}
            if any(_differs(second, first) for first, second in rows.values()):
                elsewhere = [run(np.roll(np.arange(probe, probe + size) % count, turn)) for size, turn in _ELSEWHERE]
                others = {name: [part[name][turn] for part, (_, turn) in zip(elsewhere, _ELSEWHERE)] for name in found}
                if _odder(rows, others):
                    for name, (_, second) in rows.items():
                        found[name][probe] = second
    return found


def _odder(rows: Mapping[str, tuple[Array, Array]], others: Mapping[str, list[Array]]) -> bool:
    """Whether the second of two outputs for one input is farther than the first from what it is in most places."""
    first = second = 0.0
    for name, pair in rows.items():
        usual = np.median(np.stack([*pair, *others[name]]).astype(np.float64), 0)
        first, second = (far + float(np.linalg.norm(one - usual)) for far, one in zip((first, second), pair))
    return not second <= first


def _differs(one: Array, other: Array) -> bool:
    """Whether ``one`` of two outputs for the same input is not finite, or they differ by more than sums' order does."""
    a, b = (np.asarray(array, np.float64) for array in (one, other))
    return bool(np.isfinite(b).all()) and not float(np.linalg.norm(a - b)) <= _ORDER * float(np.linalg.norm(b))


def batches_of(count: int, size: int | None) -> Iterator[slice]:
    """How ``count`` probes are split into batches: of the artifact's ``size``, or of several if that is dynamic."""
    sizes = [size] if size else _SIZES
    start = turn = 0
    while start < count:
        rows = sizes[turn % len(sizes)]
        yield slice(start, start + rows)
        start, turn = start + rows, turn + 1
