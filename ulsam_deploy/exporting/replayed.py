"""Local replay of an artifact that runs here, and what it means for the verdict."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING

import numpy as np

from ulsam_deploy.device.arrays import ArrayMap
from ulsam_deploy.device.bundle import Evidence
from ulsam_deploy.device.errors import UlsamError
from ulsam_deploy.device.findings import (
    OutputCheck,
    Reason,
    ReasonKind,
    Replay,
    ReplayDepth,
    ReplayedModule,
    Statistic,
)
from ulsam_deploy.device.parity import Golden
from ulsam_deploy.device.parity.noise import relative, scales
from ulsam_deploy.device.parity.sketch import compact
from ulsam_deploy.device.precisions import CALIBRATED
from ulsam_deploy.device.proven import DECIDES, TWICE, concluded, eased
from ulsam_deploy.device.types import StepGrid
from ulsam_deploy.device.verify import worst_batch

if TYPE_CHECKING:
    from ulsam_deploy.graph import Program

__all__ = ["replayed"]

#: The share of an error that the same batch has to show again: some faults show beside certain images only.
REPEATED = 0.9
#: The share of values outside a quantizer's range that is worth a note, and how many modules it names.
CLIPPED, _NAMED = 0.02, 3
#: A ratio that still says something: of what was only moved, nothing is rounded.
_PLAIN = 1e9

Values = Callable[[ArrayMap], ArrayMap]


def replayed(
    evidence: Evidence,
    program: Program,
    golden: Golden,
    precision: str,
    values: Values,
    run: Values,
    depth: ReplayDepth,
    grids: Callable[[], Mapping[str, StepGrid]],
) -> Evidence:
    """Replay an artifact, and add to its ``evidence`` what was found; the verdict follows.

    A module that is wrong is a fault. Where every module is right, an output's error is rounding that has added up, if
    the artifact was as far off while its modules were proven; and a comparison of outputs that could not have failed is
    no doubt any more.

    Args:
        evidence: What the outputs showed.
        program: The network, in the form that is nearest to the artifact's.
        golden: The golden set of the artifact's precision.
        precision: The artifact's precision.
        values: Gives every tensor inside the artifact for a batch.
        run: Gives its outputs for a batch.
        depth: On how many batches.
        grids: Gives the tensors inside the artifact that are rounded to steps.

    Returns:
        The evidence; unchanged if nothing is to be replayed, and with a note if it cannot be.
    """
    from ulsam_deploy.graph.replay.replaying import Batch, replay

    if depth is ReplayDepth.OFF or evidence.parity is None:
        return evidence
    if any(output.statistic is None for output in evidence.parity.outputs):  # nothing of that shape can be compared
        return evidence
    chosen = list(_chosen(evidence, golden, program.batch, depth))
    feeds = [{name: array[rows] for name, array in golden.inputs.items()} for rows in chosen]
    try:
        produced = [run(feed) for feed in feeds]
        stated = grids() if precision in CALIBRATED else {}
        found, shown = replay(
            program, precision, (Batch(feed, values(feed), out) for feed, out in zip(feeds, produced)), stated
        )
    except UlsamError as error:  # not every engine shows its inner values
        note = Reason(
            "", ReasonKind.MODULE_NOTE, f"Note: no module was replayed by itself: {error.found.splitlines()[0]}."
        )
        return dataclasses.replace(evidence, reasons=(*evidence.reasons, note))
    honest = _is_rounding(evidence, golden, chosen[0], shown[0].outputs, produced[0])
    proves = found.proves and precision in DECIDES
    reasons = eased(evidence.reasons, honest, found) if proves else evidence.reasons
    decides = precision in DECIDES or bool(stated)
    wrong = (_wrong(module, found, decides=decides) for module in found.wrong)
    return concluded(dataclasses.replace(evidence, replay=found), (*wrong, *reasons, *_clipped(found)))


def _chosen(evidence: Evidence, golden: Golden, size: int | None, depth: ReplayDepth) -> Iterator[slice]:
    """The batch with the worst probe as it was run, and all others if that was asked for."""
    first = worst_batch(evidence, golden, size)
    yield first
    if depth is ReplayDepth.FULL:
        step = size or 1
        for start in range(0, len(golden.probes) - step + 1, step):
            if not first.start <= start < first.stop:
                yield slice(start, start + step)


def _is_rounding(
    evidence: Evidence, golden: Golden, rows: slice, shown: ArrayMap, produced: ArrayMap
) -> frozenset[str]:
    """The outputs whose error this run repeats, and the proven run of the same artifact reaches at least half of."""
    assert evidence.parity is not None
    return frozenset(
        check.output
        for check in evidence.parity.outputs
        if check.error is not None
        and _error(check, golden, rows, produced) >= REPEATED * check.error
        and _error(check, golden, rows, shown) >= check.error / TWICE
    )


def _error(check: OutputCheck, golden: Golden, rows: slice, outputs: ArrayMap) -> float:
    """The error of ``outputs`` by the statistic of ``check``, in noise floors; 0 where that is over all probes."""
    reference = compact(golden.outputs[check.output])
    delta = compact(np.asarray(outputs[check.output])) - reference[rows]
    l2, peak = relative(delta, scales(reference)[rows])
    found = {Statistic.L2: l2 / check.floor.l2, Statistic.PEAK: peak / check.floor.peak}
    return float(np.max(found[check.statistic])) if check.statistic in found else 0.0


def _clipped(replay: Replay) -> Iterator[Reason]:
    """The note about quantizers whose ranges hold not nearly all values, worst first."""
    found = sorted((one for one in replay.modules if one.clipped > CLIPPED), key=lambda one: -one.clipped)
    if not found:
        return
    named = ", ".join(f"'{one.module or 'forward'}' ({one.clipped:.0%})" for one in found[:_NAMED])
    more = f" and of {len(found) - _NAMED} more" if len(found) > _NAMED else ""
    sentence = (
        f"Note: values lie outside the range of the quantizer behind module {named}{more}, on the batch that was "
        f"replayed, and are clipped: calibrate with more inputs like it, or keep it in floating point (--keep)."
    )
    yield Reason(found[0].module, ReasonKind.MODULE_NOTE, sentence)


def _wrong(module: ReplayedModule, replay: Replay, *, decides: bool) -> Reason:
    name = f"'{module.module or 'forward'}' ({module.operator})"
    size = f"{module.ratio:.3g} times" if module.ratio is not None and module.ratio < _PLAIN else "far more than"
    off = f"off by {size} its rounding; {replay.allowed:g} times are allowed."
    if decides and module.operator == "quantize":
        sentence = (
            f"The quantizer behind module '{module.module or 'forward'}' does not give the nearest of its own steps, "
            f"or clips most of what varies: its scale, its zero point or its range is wrong. It is {off}"
        )
        return Reason(module.module, ReasonKind.MODULE_FAULT, sentence)
    if decides:
        sentence = (
            f"Module {name} does not give what PyTorch gives for the inputs that the artifact itself fed into it: "
            f"it is {off}"
        )
        return Reason(module.module, ReasonKind.MODULE_FAULT, sentence)
    sentence = (
        f"Note: the tensors of module {name} could be told apart in the artifact only so that it is {off} It may be "
        f"wrong, or rounded by steps that the file does not state."
    )
    return Reason(module.module, ReasonKind.MODULE_NOTE, sentence)
