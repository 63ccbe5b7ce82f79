"""The golden set: probes, float64 reference outputs, ablation steps and noise floors, in one npz file.

numpy only; device-safe. To verify an artifact, a device needs this file, numpy and an engine, and nothing else.
"""

from __future__ import annotations

import hashlib
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

_SCHEMA = "ulsam-deploy/golden/5"
#: The version before, which knows no gates.
_EARLIER = "ulsam-deploy/golden/4"


@dataclass(frozen=True)
class PrecisionFloors:
    """The noise floors for artifacts of one precision, from control runs in that precision, by output.

    ``kept``: positions of the probes on which the precision works at all: float16 overflows on some, and int8 only has
    ranges for inputs like those of its calibration.
    """

    floors: Mapping[str, Floor]
    kept: tuple[int, ...]


@dataclass(frozen=True)
class Golden:
    """Probes and the reference's outputs for them. P probes, B attention blocks.

    ``inputs``: any numeric dtype, (P, ...). ``outputs``: float64 (P, ...), of the captured, unrewritten model.
    ``reference_ablations``: float32 (B, P, ...), ``t_b - y``: the step from removing block b's attention;
    ``uniform_ablations``: the step from making it uniform, 1/(H*W) everywhere, or empty where that was not computed.
    ``shapes``: each output's real shape without the batch. An output of more than ``sketch.LIMIT`` values per probe is
    stored as its count sketch, (P, LIMIT), so that the file stays small for any network. ``floors``: of float32.
    ``precision_floors``: of other precisions, by name. ``artifact_ablations``: by artifact (``onnx-int8``) and output,
    float32 (B, K, ...): the outputs of that artifact without each block's attention, on the K probes of its noise
    floor. ``inside``: by artifact, the retention of each block that was read inside it when it was made, or ``None``.
    ``gates``: attention that is watched and not fused; ``gate_ablations`` and ``gates_inside`` are the same for them.
    Raises :class:`ExportError` if the arrays do not match each other or are not finite.
    """

    inputs: Mapping[str, Array]
    outputs: Mapping[str, Array]
    reference_ablations: Mapping[str, Array]
    shapes: Mapping[str, tuple[int, ...]]
    floors: Mapping[str, Floor]
    blocks: tuple[str, ...]
    probes: tuple[str, ...]
    uniform_ablations: Mapping[str, Array] = field(default_factory=dict)
    precision_floors: Mapping[str, PrecisionFloors] = field(default_factory=dict)
    artifact_ablations: Mapping[str, Mapping[str, Array]] = field(default_factory=dict)
    inside: Mapping[str, tuple[Reading | None, ...]] = field(default_factory=dict)
    gates: tuple[str, ...] = ()
    gate_ablations: Mapping[str, Array] = field(default_factory=dict)
    gates_inside: Mapping[str, tuple[Reading | None, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        problem = _problem(self)
        if problem:
            raise ExportError(f"the golden set is not consistent: {problem}")

    @classmethod
    def build(
        cls,
        inputs: ArrayMap,
        reference: ArrayMap,
        ablations: Sequence[ArrayMap],
        controls: Sequence[ArrayMap],
        *,
        uniform_ablations: Sequence[ArrayMap] = (),
        blocks: Sequence[str],
        probes: Sequence[str],
        gates: Sequence[str] = (),
        gate_ablations: Sequence[ArrayMap] = (),
    ) -> Golden:
        """Build a golden set from complete runs, each a mapping from output name to (P, ...).

        Runs of dense outputs may be passed through :func:`~ulsam_deploy.device.parity.sketch.compact` batch by batch
        first, if all of them are; set the true shapes with :func:`dataclasses.replace` then.

        Args:
            inputs: The probes, (P, ...) by input name.
            reference: The float64 outputs.
            ablations: One float64 run for each block, with that block's attention removed.
            controls: Float32 runs for the noise floors (:func:`~ulsam_deploy.device.parity.noise.noise_floors`).
            uniform_ablations: One float64 run for each block, with that block's attention made uniform.
            blocks: The names of the blocks.
            probes: The names of the probes.
            gates: The names of watched gates.
            gate_ablations: One float64 run for each gate, with its weights folded.
        """
        for what, runs in (("reference", ablations), ("uniform", uniform_ablations)):
            if len(runs) != len(blocks) and (runs or runs is ablations):
                raise ExportError(
                    f"{len(runs)} {what} ablations were given for {len(blocks)} blocks", expected="one a block"
                )
        outputs, removed, flat, folded = {}, {}, {}, {}
        for name, whole in reference.items():
            y = compact(whole)
            kept = whole.shape if y.shape[1] == int(np.prod(whole.shape[1:])) else y.shape
            outputs[name] = y.reshape(kept)
            removed[name] = _steps(name, ablations, y).reshape(len(blocks), *kept)
            if uniform_ablations:
                flat[name] = _steps(name, uniform_ablations, y).reshape(len(blocks), *kept)
            if gates:
                folded[name] = _steps(name, gate_ablations, y).reshape(len(gates), *kept)
        return cls(
            inputs={name: np.asarray(array) for name, array in inputs.items()},
            outputs=outputs,
            reference_ablations=removed,
            uniform_ablations=flat,
            shapes={name: tuple(whole.shape[1:]) for name, whole in reference.items()},
            floors=noise_floors(reference, controls),
            blocks=tuple(blocks),
            probes=tuple(probes),
            gates=tuple(gates),
            gate_ablations=folded,
        )

    def take(self, order: Sequence[int]) -> Golden:
        """The golden set of the probes at ``order``, in that order: for a smaller check, or a permuted batch."""
        index = np.asarray(order, dtype=np.intp)
        return Golden(
            inputs={name: array[index] for name, array in self.inputs.items()},
            outputs={name: array[index] for name, array in self.outputs.items()},
            reference_ablations={name: array[:, index] for name, array in self.reference_ablations.items()},
            uniform_ablations={name: array[:, index] for name, array in self.uniform_ablations.items()},
            shapes=self.shapes,
            floors=self.floors,
            blocks=self.blocks,
            probes=tuple(self.probes[i] for i in index),
            gates=self.gates,
            gate_ablations={name: array[:, index] for name, array in self.gate_ablations.items()},
        )  # the figures of other precisions are valid for their own probes only

    def at(self, precision: str) -> Golden:
        """The golden set for artifacts in ``precision``: its floors, and the probes on which it works.

        Raises :class:`UnavailableError` if the set was made without that precision.
        """
        if precision == "fp32":
            return self
        if precision not in self.precision_floors:
            raise UnavailableError(
                f"there are no control runs in {precision} to judge by",
                expected=", ".join(["fp32", *self.precision_floors]),
                todo=f"export again with --precision {precision}",
            )
        found = self.precision_floors[precision]
        return replace(self.take(found.kept), floors=found.floors)

    @property
    def digest(self) -> str:
        """SHA-256 of the probes and their names: equal for two builds that were checked on the same ones."""
        found = hashlib.sha256(json.dumps([self.probes, list(self.inputs)]).encode())
        for array in self.inputs.values():
            found.update(f"{array.dtype.str}{array.shape}".encode() + np.ascontiguousarray(array).tobytes())
        return found.hexdigest()

    def save(self, path: Path) -> None:
        """Write one npz; the bytes are deterministic (members in order, no dates; names are in ``meta``)."""
        meta = {
            "schema": _SCHEMA,
            "inputs": list(self.inputs),
            "outputs": list(self.outputs),
            "shapes": {name: list(shape) for name, shape in self.shapes.items()},
            "floors": as_json(dict(self.floors)),
            "blocks": list(self.blocks),
            "probes": list(self.probes),
            "precision_floors": {
                name: {"floors": as_json(dict(found.floors)), "kept": list(found.kept)}
                for name, found in self.precision_floors.items()
            },
            "artifact_ablations": list(self.artifact_ablations),
            "inside": {artifact: list(found) for artifact, found in self.inside.items()},
            "gates": list(self.gates),
            "gates_inside": {artifact: list(found) for artifact, found in self.gates_inside.items()},
        }
        members = {"meta": np.frombuffer(json.dumps(meta, sort_keys=True).encode(), dtype=np.uint8)}
        members |= {f"input_{i}": array for i, array in enumerate(self.inputs.values())}
        members |= {f"output_{i}": array for i, array in enumerate(self.outputs.values())}
        members |= {f"reference_ablation_{i}": self.reference_ablations[name] for i, name in enumerate(self.outputs)}
        members |= {
            f"uniform_ablation_{i}": self.uniform_ablations[name]
            for i, name in enumerate(self.outputs)
            if self.uniform_ablations
        }
        members |= {f"gate_ablation_{i}": self.gate_ablations[n] for i, n in enumerate(self.outputs) if self.gates}
        for i, found in enumerate(self.artifact_ablations.values()):
            members |= {f"artifact_ablation_{i}_{j}": found[name] for j, name in enumerate(self.outputs)}
        write_arrays(path, members, compressed=True)

    @classmethod
    def load(cls, path: Path) -> Golden:
        """Read what :meth:`save` wrote; nothing in the file can run code.

        Raises :class:`UsageError` if there is no such file, :class:`RefusedError` if it is not a valid golden set.
        """
        if not path.exists():
            raise UsageError(f"there is no file '{path}'", expected="a golden set (golden.npz)")
        try:
            members = read_arrays(path)
            meta = json.loads(members["meta"].tobytes())
            if meta["schema"] == _EARLIER:
                meta |= {"gates": [], "gates_inside": {}}
            elif meta["schema"] != _SCHEMA:
                raise ValueError(f"its schema is '{meta['schema']}' and not '{_SCHEMA}'")
            return cls(
                inputs={name: members[f"input_{i}"] for i, name in enumerate(meta["inputs"])},
                outputs={name: members[f"output_{i}"] for i, name in enumerate(meta["outputs"])},
                reference_ablations={
                    name: members[f"reference_ablation_{i}"] for i, name in enumerate(meta["outputs"])
                },
                uniform_ablations={
                    name: members[f"uniform_ablation_{i}"]
                    for i, name in enumerate(meta["outputs"])
                    if "uniform_ablation_0" in members
                },
                shapes={name: tuple(int(n) for n in shape) for name, shape in meta["shapes"].items()},
                floors=_floors(meta["floors"]),
                blocks=tuple(str(block) for block in meta["blocks"]),
                probes=tuple(str(probe) for probe in meta["probes"]),
                precision_floors={
                    name: PrecisionFloors(_floors(found["floors"]), tuple(int(i) for i in found["kept"]))
                    for name, found in meta["precision_floors"].items()
                },
                artifact_ablations={
                    artifact: {name: members[f"artifact_ablation_{i}_{j}"] for j, name in enumerate(meta["outputs"])}
                    for i, artifact in enumerate(meta["artifact_ablations"])
                },
                inside={artifact: tuple(map(_reading, found)) for artifact, found in meta["inside"].items()},
                gates=tuple(str(gate) for gate in meta["gates"]),
                gate_ablations={
                    n: members[f"gate_ablation_{i}"] for i, n in enumerate(meta["outputs"]) if meta["gates"]
                },
                gates_inside={name: tuple(map(_reading, found)) for name, found in meta["gates_inside"].items()},
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


def _steps(name: str, ablations: Sequence[ArrayMap], y: Array) -> Array:
    """Output ``name`` of each ablation, minus the reference ``y`` (P, K): float32 (B, P, K)."""
    steps = [compact(ablation[name]) - y for ablation in ablations]
    return np.stack(steps).astype(np.float32) if steps else np.zeros((0, *y.shape), np.float32)


def _problem(golden: Golden) -> str:
    """What is wrong with the set, as text, or an empty string."""
    count = len(golden.probes)
    if count == 0 or len(set(golden.probes)) != count:
        return "it needs at least one probe, each with a name of its own"
    if not golden.outputs or not golden.inputs:
        return "it has no inputs or no outputs"
    if len({*golden.blocks, *golden.gates}) != len(golden.blocks) + len(golden.gates):
        return "two blocks have one name"
    for what in (
        golden.reference_ablations,
        golden.shapes,
        golden.floors,
        golden.uniform_ablations or golden.reference_ablations,
        golden.gate_ablations if golden.gates else golden.outputs,
    ):
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
        ("ablation step of output", golden.reference_ablations[name], (len(golden.blocks), *kept), np.float32),
        (
            "uniform step of output",
            (golden.uniform_ablations or golden.reference_ablations)[name],
            (len(golden.blocks), *kept),
            np.float32,
        ),
    )
    if golden.gates:
        wanted += (("gate step of output", golden.gate_ablations[name], (len(golden.gates), *kept), np.float32),)
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
    for precision, found in golden.precision_floors.items():
        if name not in found.floors or not _is_positive(found.floors[name]):
            return f"the {precision} noise floor of output '{name}' is not a positive number"
        if not found.kept or not set(found.kept) <= set(range(len(golden.probes))):
            return f"the probes of {precision} are not among its {len(golden.probes)} probes"
    for artifact, arrays in golden.artifact_ablations.items():
        if arrays[name].ndim < 2 or len(arrays[name]) != len(golden.blocks) or not _is_finite(arrays[name]):
            return f"the ablations of {artifact} do not fit the {len(golden.blocks)} blocks, or are not finite"
    for what, count, inside in (
        ("blocks", len(golden.blocks), golden.inside),
        ("gates", len(golden.gates), golden.gates_inside),
    ):
        for artifact, readings in inside.items():
            numbers = [number for found in readings if found for number in found]
            if len(readings) != count or not np.all(np.isfinite(numbers)):
                return f"what was read inside {artifact} does not fit the {count} {what}, or is not finite"
    return ""


def _is_positive(floor: Floor) -> bool:
    drift = floor.of(Statistic.DRIFT)
    return bool(np.isfinite(floor.l2) and np.isfinite(floor.peak) and min(floor.l2, floor.peak, drift) > 0)


def _is_finite(array: Array) -> bool:
    return array.dtype.kind in "fiub" and bool(np.all(np.isfinite(array)))
