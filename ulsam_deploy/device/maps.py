"""Attention maps for people to view: PyTorch's and each engine's, for a few probes, in one small npz of a bundle.

numpy and the engines only. An engine's maps are read from the running artifact and recognized by the properties of an
attention map: as many numbers as the block's map has, none negative, and a sum of one over every subspace.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from ulsam_deploy.device.arrays import Array, ArrayMap
from ulsam_deploy.device.bundle import ArtifactRecord, Manifest
from ulsam_deploy.device.engines import runtime_for
from ulsam_deploy.device.errors import RefusedError, UlsamError, UnavailableError
from ulsam_deploy.device.findings import Step, check_steps
from ulsam_deploy.device.npz import DAMAGE, read_arrays, write_arrays
from ulsam_deploy.device.parity import Golden
from ulsam_deploy.device.runtime import Runtime
from ulsam_deploy.device.types import EvidenceLevel

MAPS = "maps.npz"
_SCHEMA = "ulsam-deploy/maps/1"
#: A map with a longer side is averaged down to this: a report shows no more detail.
SIDE = 56
#: Numbers in the maps of all blocks on one probe, and number of probes: these keep a report below 3 MiB.
MOST_NUMBERS, MOST_PROBES = 60_000, 6
#: How far the sum of a subspace's map may be from one (float16 rounds each of its numbers), and the numbers below 0.
_ROUNDING = 0.02


@dataclass(frozen=True)
class Maps:
    """Maps by block, float32 ``(P, g, h, w)``; ``h`` and ``w`` are at most :data:`SIDE`.

    ``shapes`` are the blocks' own ``(g, H, W)``; ``engines`` holds the maps by artifact (``onnx fp32``) and block, as
    far as they were found, and ``missing`` says by artifact why there are none. ``naive`` is the graph of the first
    block as written in the network.
    """

    probes: tuple[str, ...]
    shapes: Mapping[str, tuple[int, int, int]]
    reference: Mapping[str, Array]
    naive: tuple[Step, ...] = ()
    engines: Mapping[str, Mapping[str, Array]] = field(default_factory=dict)
    missing: Mapping[str, str] = field(default_factory=dict)

    def save(self, path: Path) -> None:
        """Write one npz; the same maps give the same bytes."""
        names = list(self.shapes)
        meta = {
            "schema": _SCHEMA,
            "probes": list(self.probes),
            "blocks": [[name, *shape] for name, shape in self.shapes.items()],
            "naive": [[step.name, step.shape, list(step.sources)] for step in self.naive],
            "engines": {label: sorted(map(names.index, found)) for label, found in self.engines.items()},
            "missing": dict(self.missing),
        }
        members = {"meta": np.frombuffer(json.dumps(meta, sort_keys=True).encode(), dtype=np.uint8)}
        members |= {f"reference_{i}": self.reference[name] for i, name in enumerate(names)}
        for e, label in enumerate(sorted(self.engines)):
            members |= {f"engine_{e}_{names.index(name)}": array for name, array in self.engines[label].items()}
        write_arrays(path, members, compressed=True)

    @classmethod
    def load(cls, path: Path) -> Maps:
        """Read what :meth:`save` wrote; raises :class:`RefusedError` for any other file."""
        try:
            file = read_arrays(path)
            meta = json.loads(file["meta"].tobytes())
            if meta["schema"] != _SCHEMA:
                raise ValueError(f"its schema is '{meta['schema']}' and not '{_SCHEMA}'")
            shapes = {str(name): (int(g), int(h), int(w)) for name, g, h, w in meta["blocks"]}
            names = list(shapes)
            naive = tuple(Step(str(n), str(s), tuple(map(int, f))) for n, s, f in meta["naive"])
            check_steps(naive)
            return cls(
                probes=tuple(map(str, meta["probes"])),
                shapes=shapes,
                reference={name: file[f"reference_{i}"] for i, name in enumerate(names)},
                naive=naive,
                engines={
                    label: {names[i]: file[f"engine_{e}_{i}"] for i in found}
                    for e, (label, found) in enumerate(sorted(meta["engines"].items()))
                },
                missing={str(label): str(why) for label, why in meta["missing"].items()},
            )
        except DAMAGE as error:
            raise RefusedError(f"'{path.name}' is not a sound set of maps: {error}", todo="export it again") from error


def chosen(golden: Golden, numbers: int) -> list[int]:
    """Which probes to show if each takes ``numbers`` numbers: real ones first, then natural-looking ones."""
    room = max(1, min(MOST_PROBES, MOST_NUMBERS // max(numbers, 1)))
    order = ("yours", "held-out", "natural", "")
    ranked = [i for word in order for i, name in enumerate(golden.probes) if name.startswith(word)]
    return list(dict.fromkeys(ranked))[:room]


def pooled(maps: Array) -> Array:
    """``(N, g, H, W)`` averaged over squares until no side is longer than :data:`SIDE`; float32."""
    factor = -(-max(maps.shape[2:]) // SIDE)
    if factor > 1:
        height, width = (size // factor * factor for size in maps.shape[2:])
        cut = maps[:, :, :height, :width].astype(np.float64)
        maps = cut.reshape(*maps.shape[:2], height // factor, factor, width // factor, factor).mean((3, 5))
    return maps.astype(np.float32)


def complete(manifest: Manifest, folder: Path) -> str:
    """Add each engine's maps to the reference's maps in ``folder``; the writer of an attachment."""
    path = folder / MAPS
    if not path.is_file() or manifest.golden is None:
        return ""
    maps, golden = Maps.load(path), Golden.load(folder / manifest.golden.path)
    engines: dict[str, Mapping[str, Array]] = {}
    missing: dict[str, str] = {}
    for record in manifest.artifacts if maps.shapes else ():
        label = f"{record.target} {record.precision}"
        try:
            engines[label] = _of_artifact(record, folder, golden, maps)
        except UlsamError as error:
            missing[label] = error.found.splitlines()[0]
    replace(maps, engines=engines, missing=missing).save(path)
    return MAPS


def _of_artifact(record: ArtifactRecord, folder: Path, golden: Golden, maps: Maps) -> dict[str, Array]:
    if record.evidence.level < EvidenceLevel.EXECUTED:
        raise UnavailableError("it was not executed here")
    rows = [golden.probes.index(probe) for probe in maps.probes]
    files = [folder / file.path for file in record.files]
    with runtime_for(record.target)(files, record.inputs, record.outputs) as runtime:
        found = engine_maps(runtime, {name: array[rows] for name, array in golden.inputs.items()}, maps)
    if not found:
        raise UnavailableError("its engine does not keep the maps as tensors that can be read")
    return found


def engine_maps(runtime: Runtime, inputs: ArrayMap, maps: Maps) -> dict[str, Array]:
    """The maps of each block that the open ``runtime`` computes on ``inputs``, the probes of ``maps``.

    A block whose maps are not found on every probe is omitted.
    """
    count = len(maps.probes)
    parts: dict[str, list[Array]] = {name: [] for name in maps.shapes}
    for rows in _batches(count, runtime.inputs[0].shape[0] or count):
        values = runtime.values({spec.name: inputs[spec.name][rows] for spec in runtime.inputs})
        for name, shape in maps.shapes.items():
            found = _nearest(values.values(), shape, maps.reference[name][rows])
            if found is not None:
                parts[name].append(found)
    whole = {name: np.concatenate(found)[:count] for name, found in parts.items() if found}
    return {name: array for name, array in whole.items() if len(array) == count}


def _batches(count: int, size: int) -> Iterator[list[int]]:
    """Rows in batches of ``size``; the last one is filled up with its last row."""
    for start in range(0, count, size):
        yield [min(row, count - 1) for row in range(start, start + size)]


def _nearest(values: object, shape: tuple[int, int, int], reference: Array) -> Array | None:
    """Those maps of ``shape`` (g, H, W) in ``values`` that are nearest to ``reference``, pooled; ``None``: no maps."""
    best, found = np.inf, None
    for maps in _candidates(values, len(reference), shape):
        small = pooled(maps)
        distance = float(np.linalg.norm(small - reference))
        if distance < best:
            best, found = distance, small
    return found


def _candidates(values: Any, batch: int, shape: tuple[int, int, int]) -> Iterator[Array]:
    """Every tensor that can be the maps of a block, as (N, g, H, W), in whichever layout the engine stores it."""
    subspaces, height, width = shape
    for value in values:
        if value.size != batch * subspaces * height * width:
            continue
        for maps in (
            value.reshape(batch, subspaces, height, width),
            np.moveaxis(value.reshape(batch, height, width, subspaces), -1, 1),
        ):
            if _is_map(maps):
                yield maps


def _is_map(maps: Array) -> bool:
    exact = maps.astype(np.float64)
    sums = exact.sum((2, 3))
    return bool(np.isfinite(exact).all() and exact.min() >= 0 and np.abs(sums - 1).max() <= _ROUNDING)


def step_counts(steps: Sequence[Step]) -> dict[str, int]:
    """How often each operation occurs, the most frequent first."""
    names = [step.name for step in steps]
    return dict(sorted(((name, names.count(name)) for name in set(names)), key=lambda item: (-item[1], item[0])))
