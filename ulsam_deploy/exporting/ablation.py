"""Artifact ablation: an artifact without the attention of one block, and what it and the whole one show beside it.

An exporter makes the ablated file from the finished one (:meth:`~ulsam_deploy.graph.interfaces.Exporter.ablate`), so
that everything else, scales and roundings too, is as it ships.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ulsam_deploy.device.arrays import Array, ArrayMap
from ulsam_deploy.device.errors import UlsamError
from ulsam_deploy.device.files import scratch
from ulsam_deploy.device.parity import Inside, Reading
from ulsam_deploy.device.parity.sketch import compact
from ulsam_deploy.device.runtime import Runtime
from ulsam_deploy.device.types import Artifact
from ulsam_deploy.device.verify import produce, runtime_for
from ulsam_deploy.exporting.prepare import Prepared
from ulsam_deploy.graph.interfaces import Exporter

__all__ = ["Ablations", "Shown", "ablate", "gathered", "opened"]


@dataclass(frozen=True)
class Ablations:
    """What an artifact gave without each block's attention, and what was read at each block inside it.

    ``outputs`` is float32 (B, P, K) by output; both are empty where there are no ablations.
    """

    outputs: Mapping[str, Array] = field(default_factory=dict)
    inside: tuple[Reading | None, ...] = ()


@dataclass(frozen=True)
class Shown:
    """What an artifact or an ablation gives on all probes, and all values inside it on each batch that is watched."""

    outputs: ArrayMap
    values: Sequence[ArrayMap]


def ablate(prepared: Prepared, exporter: Exporter, artifact: Artifact, folder: Path) -> Ablations:
    """The ablations of ``artifact``, which has one softmax for each block.

    Empty where there are no blocks, or the exporter cannot make such ablations. Raises :class:`UnavailableError` when
    there is no engine here.
    """
    engine = runtime_for(exporter.target)
    if not prepared.golden.blocks:
        return Ablations()
    inputs = prepared.golden.at(artifact.precision).inputs
    files = [folder / name for name in artifact.files]

    def ablations(place: Path) -> Iterator[Shown | None]:
        for number in range(len(prepared.golden.blocks)):
            into = place / str(number)
            into.mkdir()
            try:
                made = exporter.ablate(files[0], range(number, number + 1), into)
            except UlsamError:  # an ablation is evidence about the artifact, and its making no part of the artifact's
                made = False
            if not made:
                yield None
                continue
            with opened(engine, [into / name for name in artifact.files], artifact) as ablation:
                yield Shown(produce(ablation, inputs), _values(prepared, ablation.values))
            shutil.rmtree(into)

    with scratch() as place, opened(engine, files, artifact) as whole:
        return gathered(prepared, _values(prepared, whole.values), ablations(place))


def gathered(prepared: Prepared, seen: Sequence[ArrayMap], ablations: Iterable[Shown | None]) -> Ablations:
    """What ``ablations`` (one a block, in order) show about an artifact inside which there is ``seen``.

    Outputs become compact float32 (B, P, K) by output name. Empty where there is no ablation of some block.
    """
    rows, inside = list[dict[str, Array]](), list[Reading | None]()
    for number, ablation in enumerate(ablations):
        if ablation is None:
            return Ablations()
        rows.append({name: compact(array).astype(np.float32) for name, array in ablation.outputs.items()})
        inside.append(_look_inside(prepared, number, seen, ablation.values))
    return Ablations({name: np.stack([row[name] for row in rows]) for name in prepared.golden.outputs}, tuple(inside))


def opened(engine: type[Runtime], files: Sequence[Path], artifact: Artifact) -> Runtime:
    """``files``, which have the inputs and outputs of ``artifact``, in ``engine``; to be entered with ``with``."""
    return engine(files, artifact.inputs, artifact.outputs)


def _values(prepared: Prepared, values: Callable[[ArrayMap], ArrayMap]) -> list[ArrayMap]:
    """All values inside an artifact on each batch that is watched; none where its engine cannot show them."""
    try:
        return [values(feed) for feed, _ in prepared.watched()]
    except UlsamError:  # as above
        return []


def _look_inside(
    prepared: Prepared, block: int, seen: Sequence[ArrayMap], ablation: Sequence[ArrayMap]
) -> Reading | None:
    """What the attention of ``block`` does at the block, on a few real inputs; ``None`` where none can be told."""
    inside = Inside()
    for (_, blocks), whole, other in zip(prepared.watched(), seen, ablation):
        inside.note(blocks[block], whole, other)
    return inside.reading()
