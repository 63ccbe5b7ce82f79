"""What an artifact is held against: probes, float64 reference outputs, ablation steps, noise floors; one npz file.

numpy only; device-safe. A device needs this file, numpy and an engine to verify an artifact, and nothing else.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from ulsam_deploy.device.arrays import Array, ArrayMap
from ulsam_deploy.device.errors import ExportError, RefusedError, UnavailableError, UsageError
from ulsam_deploy.device.findings import Floor, Statistic
from ulsam_deploy.device.npz import DAMAGE, UnsoundArraysError, read_arrays, write_arrays
from ulsam_deploy.device.parity.inside import Reading
from ulsam_deploy.device.parity.noise import as_json, noise_floors
from ulsam_deploy.device.parity.sketch import LIMIT, compact
from ulsam_deploy.device.shapes import shape_text

_SCHEMA = "ulsam-deploy/golden/3"


@dataclass(frozen=True)
class Yardstick:
    """What artifacts of one precision are held against: noise floors of honest runs in it, by output.

    ``kept``: positions of the probes on which the precision can work at all: float16 overflows on some, and int8 has
    ranges for inputs like those that it was calibrated on.
    """

    floors: Mapping[str, Floor]
    kept: tuple[int, ...]


@dataclass(frozen=True)
class Golden:
    """Probes and what the reference makes of them. P probes, B attention blocks.

    ``inputs``: any numeric dtype, (P, ...). ``outputs``: float64 (P, ...), of the captured, unrewritten model.
    ``ablated``: float32 (B, P, ...), ``t_b - y``: the step that removing block b's attention makes; ``evened``: the
    step that making it uniform, 1/(H*W) everywhere, makes, or empty where nobody computed that. ``shapes``: each
    output's real shape without the batch. An output of more than ``sketch.LIMIT`` values a probe is kept as its count
    sketch, (P, LIMIT), so that the file stays small whatever the network is. ``floors``: of float32.
    ``yardsticks``: of other precisions, by their names. ``silenced``: by artifact (``onnx-int8``) and output, float32
    (B, K, ...): what that artifact itself gave without each block's attention, on the K probes of its yardstick.
    ``inside``: by artifact, what was read of each block inside it where it was made, or ``None``.
    Raises :class:`ExportError` when the arrays do not fit each other or are not finite.
    """

    inputs: Mapping[str, Array]
    outputs: Mapping[str, Array]
    ablated: Mapping[str, Array]
    shapes: Mapping[str, tuple[int, ...]]
    floors: Mapping[str, Floor]
    blocks: tuple[str, ...]
    probes: tuple[str, ...]
    evened: Mapping[str, Array] = field(default_factory=dict)
    yardsticks: Mapping[str, Yardstick] = field(default_factory=dict)
    silenced: Mapping[str, Mapping[str, Array]] = field(default_factory=dict)
    inside: Mapping[str, tuple[Reading | None, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        problem = _problem(self)
        if problem:
            raise ExportError(f"the golden set is not consistent: {problem}")

    @classmethod
    def build(
        cls,
        inputs: ArrayMap,
        reference: ArrayMap,
        twins: Sequence[ArrayMap],
        honest: Sequence[ArrayMap],
        *,
        evened: Sequence[ArrayMap] = (),
        blocks: Sequence[str],
        probes: Sequence[str],
    ) -> Golden:
        """A golden set out of whole runs, each a mapping from output name to (P, ...).

        ``reference``: float64 outputs; ``twins``: one run a block, float64, with that block's attention removed, and
        ``evened`` with it made uniform;
        ``honest``: float32 runs that make the noise floors (:func:`~ulsam_deploy.device.parity.noise.noise_floors`).
        Runs of dense outputs may be given batch by batch through :func:`~ulsam_deploy.device.parity.sketch.compact`
        first, as long as all of them are: set the true shapes then with :func:`dataclasses.replace`.
        """
        for what, runs in (("ablated", twins), ("uniform", evened)):
            if len(runs) != len(blocks) and (runs or runs is twins):
                raise ExportError(
                    f"{len(runs)} {what} twins were given for {len(blocks)} blocks", expected="one a block"
                )
        outputs, ablated, flat = {}, {}, {}
        for name, whole in reference.items():
            y = compact(whole)
            kept = whole.shape if y.shape[1] == int(np.prod(whole.shape[1:])) else y.shape
            outputs[name] = y.reshape(kept)
            ablated[name] = _steps(name, twins, y).reshape(len(blocks), *kept)
            if evened:
                flat[name] = _steps(name, evened, y).reshape(len(blocks), *kept)
        return cls(
            inputs={name: np.asarray(array) for name, array in inputs.items()},
            outputs=outputs,
            ablated=ablated,
            evened=flat,
            shapes={name: tuple(whole.shape[1:]) for name, whole in reference.items()},
            floors=noise_floors(reference, honest),
            blocks=tuple(blocks),
            probes=tuple(probes),
        )

    def take(self, order: Sequence[int]) -> Golden:
        """The golden set of some of the probes, in another order: a smaller check, or a permuted batch."""
        index = np.asarray(order, dtype=np.intp)
        return Golden(
            inputs={name: array[index] for name, array in self.inputs.items()},
            outputs={name: array[index] for name, array in self.outputs.items()},
            ablated={name: array[:, index] for name, array in self.ablated.items()},
            evened={name: array[:, index] for name, array in self.evened.items()},
            shapes=self.shapes,
            floors=self.floors,
            blocks=self.blocks,
            probes=tuple(self.probes[i] for i in index),
        )  # what other precisions say holds for their own probes only

    def at(self, precision: str) -> Golden:
        """What artifacts in ``precision`` are held against: its floors, on the probes that it can work on.

        Raises :class:`UnavailableError` when the set was made without that precision.
        """
        if precision == "fp32":
            return self
        if precision not in self.yardsticks:
            raise UnavailableError(
                f"there are no honest runs in {precision} to judge by",
                expected=", ".join(["fp32", *self.yardsticks]),
                todo=f"export again with --precision {precision}",
            )
        found = self.yardsticks[precision]
        return replace(self.take(found.kept), floors=found.floors)

    def save(self, path: Path) -> None:
        """Write one npz; the same set gives the same bytes (members in order, no dates; names live in ``meta``)."""
        meta = {
            "schema": _SCHEMA,
            "inputs": list(self.inputs),
            "outputs": list(self.outputs),
            "shapes": {name: list(shape) for name, shape in self.shapes.items()},
            "floors": as_json(dict(self.floors)),
            "blocks": list(self.blocks),
            "probes": list(self.probes),
            "yardsticks": {
                name: {"floors": as_json(dict(found.floors)), "kept": list(found.kept)}
                for name, found in self.yardsticks.items()
            },
            "silenced": list(self.silenced),
            "inside": {artifact: list(found) for artifact, found in self.inside.items()},
        }
        members = {"meta": np.frombuffer(json.dumps(meta, sort_keys=True).encode(), dtype=np.uint8)}
        members |= {f"input_{i}": array for i, array in enumerate(self.inputs.values())}
        members |= {f"output_{i}": array for i, array in enumerate(self.outputs.values())}
        members |= {f"ablated_{i}": self.ablated[name] for i, name in enumerate(self.outputs)}
        members |= {f"evened_{i}": self.evened[name] for i, name in enumerate(self.outputs) if self.evened}
        for i, found in enumerate(self.silenced.values()):
            members |= {f"silenced_{i}_{j}": found[name] for j, name in enumerate(self.outputs)}
        write_arrays(path, members, compressed=True)

    @classmethod
    def load(cls, path: Path) -> Golden:
        """Read what :meth:`save` wrote; nothing in the file can run code.

        Raises :class:`UsageError` when there is no such file, :class:`RefusedError` when it is not a sound golden set.
        """
        if not path.exists():
            raise UsageError(f"there is no file '{path}'", expected="a golden set (golden.npz)")
        try:
            members = read_arrays(path)
            meta = json.loads(members["meta"].tobytes())
            if meta["schema"] != _SCHEMA:
                raise ValueError(f"its schema is '{meta['schema']}' and not '{_SCHEMA}'")
            return cls(
                inputs={name: members[f"input_{i}"] for i, name in enumerate(meta["inputs"])},
                outputs={name: members[f"output_{i}"] for i, name in enumerate(meta["outputs"])},
                ablated={name: members[f"ablated_{i}"] for i, name in enumerate(meta["outputs"])},
                evened={
                    name: members[f"evened_{i}"] for i, name in enumerate(meta["outputs"]) if "evened_0" in members
                },
                shapes={name: tuple(int(n) for n in shape) for name, shape in meta["shapes"].items()},
                floors=_floors(meta["floors"]),
                blocks=tuple(str(block) for block in meta["blocks"]),
                probes=tuple(str(probe) for probe in meta["probes"]),
                yardsticks={
                    name: Yardstick(_floors(found["floors"]), tuple(int(i) for i in found["kept"]))
                    for name, found in meta["yardsticks"].items()
                },
                silenced={
                    artifact: {name: members[f"silenced_{i}_{j}"] for j, name in enumerate(meta["outputs"])}
                    for i, artifact in enumerate(meta["silenced"])
                },
                inside={artifact: tuple(map(_reading, found)) for artifact, found in meta["inside"].items()},
            )
        except (*DAMAGE, ExportError) as error:
            in_words = isinstance(error, (UnsoundArraysError, ExportError))
            why = str(error) if in_words else f"{type(error).__name__}: {error}"
            raise RefusedError(
                f"'{path.name}' is not a sound golden set: {why}",
                expected="the golden.npz of a bundle, unchanged",
                todo="export the bundle again, or copy it again",
            ) from error


def _reading(found: Any) -> Reading | None:
    if found is None:
        return None
    value, low, high = map(float, found)
    return value, low, high


def _floors(found: Mapping[str, Any]) -> dict[str, Floor]:
    return {str(name): Floor(**floor) for name, floor in found.items()}


def _steps(name: str, twins: Sequence[ArrayMap], y: Array) -> Array:
    """What each twin makes of output ``name``, less the reference ``y`` (P, K): float32 (B, P, K)."""
    steps = [compact(twin[name]) - y for twin in twins]
    return np.stack(steps).astype(np.float32) if steps else np.zeros((0, *y.shape), np.float32)


def _problem(golden: Golden) -> str:
    """What is wrong with the set, in words, or an empty string."""
    count = len(golden.probes)
    if count == 0 or len(set(golden.probes)) != count:
        return "it needs at least one probe, each with a name of its own"
    if not golden.outputs or not golden.inputs:
        return "it has no inputs or no outputs"
    if len(set(golden.blocks)) != len(golden.blocks):
        return "two blocks have one name"
    for what in (golden.ablated, golden.shapes, golden.floors, golden.evened or golden.ablated):
        if set(what) != set(golden.outputs):
            return f"its parts name different outputs: {sorted(what)} and {sorted(golden.outputs)}"
    for name, array in golden.inputs.items():
        if array.shape[:1] != (count,) or not _is_finite(array):
            shape = shape_text(array.shape)
            return f"input '{name}' has shape {shape} or values that are not finite; {count} probes are named"
    words = (_output_problem(golden, name) or _precision_problem(golden, name) for name in golden.outputs)
    return next((found for found in words if found), "")


def _output_problem(golden: Golden, name: str) -> str:
    shape, floor = golden.shapes[name], golden.floors[name]
    size = int(np.prod(shape))
    if size <= 0:
        return f"output '{name}' is empty"
    kept = (len(golden.probes), *(shape if size <= LIMIT else (LIMIT,)))
    wanted: tuple[tuple[str, Array, tuple[int, ...], Any], ...] = (
        ("output", golden.outputs[name], kept, np.float64),
        ("ablation step of output", golden.ablated[name], (len(golden.blocks), *kept), np.float32),
        ("uniform step of output", (golden.evened or golden.ablated)[name], (len(golden.blocks), *kept), np.float32),
    )
    for what, array, right, dtype in wanted:
        if array.shape != right or array.dtype != dtype:
            found, expected = shape_text(array.shape), shape_text(right)
            return f"the {what} '{name}' is {array.dtype} {found}, not {np.dtype(dtype)} {expected}"
        if not _is_finite(array):
            return f"the {what} '{name}' has values that are not finite"
    if not _is_positive(floor):
        return f"the noise floor of output '{name}' is not a positive number"
    return ""


def _precision_problem(golden: Golden, name: str) -> str:
    for precision, found in golden.yardsticks.items():
        if name not in found.floors or not _is_positive(found.floors[name]):
            return f"the {precision} noise floor of output '{name}' is not a positive number"
        if not found.kept or not set(found.kept) <= set(range(len(golden.probes))):
            return f"the probes of {precision} are not among its {len(golden.probes)} probes"
    for artifact, arrays in golden.silenced.items():
        if arrays[name].ndim < 2 or len(arrays[name]) != len(golden.blocks) or not _is_finite(arrays[name]):
            return f"the twins of {artifact} do not fit the {len(golden.blocks)} blocks, or are not finite"
    for artifact, readings in golden.inside.items():
        numbers = [number for found in readings if found for number in found]
        if len(readings) != len(golden.blocks) or not np.all(np.isfinite(numbers)):
            return f"what was read inside {artifact} does not fit the {len(golden.blocks)} blocks, or is not finite"
    return ""


def _is_positive(floor: Floor) -> bool:
    drift = floor.of(Statistic.DRIFT)
    return bool(np.isfinite(floor.l2) and np.isfinite(floor.peak) and min(floor.l2, floor.peak, drift) > 0)


def _is_finite(array: Array) -> bool:
    return array.dtype.kind in "fiub" and bool(np.all(np.isfinite(array)))
