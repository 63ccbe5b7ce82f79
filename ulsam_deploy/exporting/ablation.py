"""Artifact ablation: runs an artifact without the attention of one block, and compares it with the whole artifact.

An exporter makes the ablated file from the finished one (:meth:`~ulsam_deploy.graph.interfaces.Exporter.ablate`), so
that everything else, scales and rounding too, is as it ships.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ulsam_deploy.device.arrays import Array, ArrayMap
from ulsam_deploy.device.engines import produce, runtime_for
from ulsam_deploy.device.errors import UlsamError
from ulsam_deploy.device.files import scratch
from ulsam_deploy.device.parity import Inside, Reading
from ulsam_deploy.device.parity.sketch import compact
from ulsam_deploy.device.runtime import Runtime
from ulsam_deploy.device.types import Artifact
from ulsam_deploy.exporting import identity
from ulsam_deploy.exporting.prepare import Prepared
from ulsam_deploy.graph.interfaces import Exporter

__all__ = ["Ablations", "Shown", "ablate", "gathered", "opened"]


@dataclass(frozen=True)
class Ablations:
    """The results of the ablations of one artifact; both are empty if there are no ablations.

    Attributes:
        outputs: The outputs without each block's attention: float32 (B, P, K) by output name.
        inside: For each block, what was measured at the block itself.
    """

    outputs: Mapping[str, Array] = field(default_factory=dict)
    inside: tuple[Reading | None, ...] = ()


@dataclass(frozen=True)
class Shown:
    """The outputs of an artifact or ablation on all probes, and its inner values on each watched batch."""

    outputs: ArrayMap
    values: Sequence[ArrayMap]


def ablate(prepared: Prepared, exporter: Exporter, artifact: Artifact, folder: Path) -> Ablations:
    """Make and run the ablations of ``artifact``.

    Empty if there are no blocks, the exporter cannot make such ablations, or it is not certain which softmaxes of the
    file are a block's. Raises :class:`UnavailableError` if its
    engine is not available here.
    """
    engine = runtime_for(exporter.target)
    if not prepared.golden.blocks:
        return Ablations()
    inputs = prepared.golden.at(artifact.precision).inputs
    files = [folder / name for name in artifact.files]

    def ablations(place: Path, chosen: Sequence[tuple[int, ...]]) -> Iterator[Shown | None]:
        for number, share in enumerate(chosen):
            into = place / str(number)
            into.mkdir()
            try:
                made = exporter.ablate(files[0], share, into)
            except UlsamError:  # an ablation is additional evidence: if it cannot be made, the artifact is still valid
                made = False
            if not made:
                yield None
                continue
            with opened(engine, [into / name for name in artifact.files], artifact) as ablation:
                yield Shown(produce(ablation, inputs), _values(prepared, ablation.values))
            shutil.rmtree(into)

    with scratch() as place, opened(engine, files, artifact) as whole:
        seen = _values(prepared, whole.values)
        return gathered(prepared, seen, ablations(place, _shares(prepared, exporter, files[0], seen)))


def _shares(prepared: Prepared, exporter: Exporter, file: Path, seen: Sequence[ArrayMap]) -> list[tuple[int, ...]]:
    try:
        names = exporter.softmaxes(file)
    except UlsamError:  # as for the ablations themselves
        return []
    return identity.shares(names, seen, [blocks for _, blocks in prepared.watched()])


def gathered(prepared: Prepared, seen: Sequence[ArrayMap], ablations: Iterable[Shown | None]) -> Ablations:
    """Collect the results of all ablations of one artifact.

    Args:
        prepared: The network.
        seen: The inner values of the artifact itself, for each watched batch.
        ablations: One for each block, in order; ``None`` if it could not be made.

    Returns:
        The results, with outputs as compact float32 (B, P, K); empty if the ablation of any block is missing.
    """
    rows, inside = list[dict[str, Array]](), list[Reading | None]()
    for number, ablation in enumerate(ablations):
        if ablation is None:
            return Ablations()
        rows.append({name: compact(array).astype(np.float32) for name, array in ablation.outputs.items()})
        inside.append(_look_inside(prepared, number, seen, ablation.values))
    if not rows:
        return Ablations()
    return Ablations({name: np.stack([row[name] for row in rows]) for name in prepared.golden.outputs}, tuple(inside))


def opened(engine: type[Runtime], files: Sequence[Path], artifact: Artifact) -> Runtime:
    """Open ``files`` in ``engine`` with the inputs and outputs of ``artifact``; use the result in a ``with``."""
    return engine(files, artifact.inputs, artifact.outputs)


def _values(prepared: Prepared, values: Callable[[ArrayMap], ArrayMap]) -> list[ArrayMap]:
    """All inner values of an artifact on each watched batch; empty if its engine cannot show them."""
    try:
        return [values(feed) for feed, _ in prepared.watched()]
    except UlsamError:  # as above
        return []


def _look_inside(
    prepared: Prepared, block: int, seen: Sequence[ArrayMap], ablation: Sequence[ArrayMap]
) -> Reading | None:
    """Measure the attention of ``block`` at the block itself, on a few real inputs; ``None`` if that is impossible."""
    inside = Inside()
    for (_, blocks), whole, other in zip(prepared.watched(), seen, ablation):
        inside.note(blocks[block], whole, other)
    return inside.reading()
