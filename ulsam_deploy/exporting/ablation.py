"""Artifact ablation: an artifact without the attention of one block, and what it and the whole one show beside it.

An exporter makes the ablated file from the finished one (:meth:`~ulsam_deploy.graph.interfaces.Exporter.silence`), so
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

__all__ = ["Shown", "Twins", "gathered", "opened", "silence"]


@dataclass(frozen=True)
class Twins:
    """What an artifact gave without each block's attention, and what was read at each block inside it.

    ``silenced`` is float32 (B, P, K) by output; both are empty where there are no twins.
    """

    silenced: Mapping[str, Array] = field(default_factory=dict)
    inside: tuple[Reading | None, ...] = ()


@dataclass(frozen=True)
class Shown:
    """What an artifact or a twin gives on all probes, and all values inside it on each batch that is watched."""

    outputs: ArrayMap
    values: Sequence[ArrayMap]


def silence(prepared: Prepared, exporter: Exporter, artifact: Artifact, folder: Path) -> Twins:
    """The twins of ``artifact``, which has one softmax for each block.

    Empty where there are no blocks, or the exporter cannot make such twins. Raises :class:`UnavailableError` when there
    is no engine here.
    """
    engine = runtime_for(exporter.target)
    if not prepared.golden.blocks:
        return Twins()
    inputs = prepared.golden.at(artifact.precision).inputs
    files = [folder / name for name in artifact.files]

    def twins(place: Path) -> Iterator[Shown | None]:
        for number in range(len(prepared.golden.blocks)):
            into = place / str(number)
            into.mkdir()
            try:
                made = exporter.silence(files[0], range(number, number + 1), into)
            except UlsamError:  # a twin is evidence about the artifact, and its making no part of the artifact's
                made = False
            if not made:
                yield None
                continue
            with opened(engine, [into / name for name in artifact.files], artifact) as twin:
                yield Shown(produce(twin, inputs), _values(prepared, twin.values))
            shutil.rmtree(into)

    with scratch() as place, opened(engine, files, artifact) as whole:
        return gathered(prepared, _values(prepared, whole.values), twins(place))


def gathered(prepared: Prepared, seen: Sequence[ArrayMap], twins: Iterable[Shown | None]) -> Twins:
    """What ``twins`` (one a block, in order) show about an artifact inside which there is ``seen``.

    Outputs become compact float32 (B, P, K) by output name. Empty where there is no twin of some block.
    """
    rows, inside = list[dict[str, Array]](), list[Reading | None]()
    for number, twin in enumerate(twins):
        if twin is None:
            return Twins()
        rows.append({name: compact(array).astype(np.float32) for name, array in twin.outputs.items()})
        inside.append(_look_inside(prepared, number, seen, twin.values))
    return Twins({name: np.stack([row[name] for row in rows]) for name in prepared.golden.outputs}, tuple(inside))


def opened(engine: type[Runtime], files: Sequence[Path], artifact: Artifact) -> Runtime:
    """``files``, which have the inputs and outputs of ``artifact``, in ``engine``; to be entered with ``with``."""
    return engine(files, artifact.inputs, artifact.outputs)


def _values(prepared: Prepared, values: Callable[[ArrayMap], ArrayMap]) -> list[ArrayMap]:
    """All values inside an artifact on each batch that is watched; none where its engine cannot show them."""
    try:
        return [values(feed) for feed, _ in prepared.watched()]
    except UlsamError:  # as above
        return []


def _look_inside(prepared: Prepared, block: int, seen: Sequence[ArrayMap], twin: Sequence[ArrayMap]) -> Reading | None:
    """What the attention of ``block`` does at the block, on a few real inputs; ``None`` where none can be told."""
    inside = Inside()
    for (_, blocks), whole, other in zip(prepared.watched(), seen, twin):
        inside.note(blocks[block], whole, other)
    return inside.reading()
