"""The figures that ``compare`` holds against the baseline, each with what it may lose: one line a figure.

The key is that of a budget file, the default what holds without one. A new figure is a new line here and nowhere else:
budgets, the output and the check of the documentation read this table.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from ulsam_deploy.device.accuracy.measuring import Share
from ulsam_deploy.device.findings import Replay
from ulsam_deploy.device.proven import DECIDES
from ulsam_deploy.gate.build import ArtifactFigures, Same

__all__ = ["BY_KEY", "FIGURES", "UNDISTURBED", "Change", "Figure", "Value"]

#: The quantile of each round that two builds are compared by. Other programs only ever add time, often to more than
#: half of a round, so that medians change without a change of code; the undisturbed runs show what the code itself
#: takes. Occasional delays are the subject of the figure and the limit on p90.
UNDISTURBED = 0.10


class Change(enum.Enum):
    """How a figure gets worse, and in what the limit is stated."""

    PERCENT = "% more"
    MORE = "more"
    LESS = "less"


@dataclass(frozen=True)
class Value:
    """One figure of one part of an artifact; ``low`` and ``high`` bound it, where it has an interval.

    ``where``: the module that it is about, where that may be another one on the other side.
    """

    value: float
    low: float | None = None
    high: float | None = None
    where: str = ""


Values = Mapping[str, Value]


@dataclass(frozen=True)
class Figure:
    """One figure.

    Attributes:
        key: Its name in a budget file.
        name: Its name in the output.
        default: How much worse than in the baseline it may be.
        change: What is worse, and what ``default`` is stated in.
        unit: The unit of the values that ``read`` gives.
        read: The value of each part of an artifact by name, ``""`` for the whole of it; nothing that is unknown.
        same: What has to be the same on both sides.
        share: For times only: the quantile of each round that is compared, by an interval.
        is_noisy: Whether the interval of a value is the uncertainty of its measurement, so that it can leave a doubt.
    """

    key: str
    name: str
    default: float
    change: Change
    unit: str
    read: Callable[[ArtifactFigures], Values]
    same: Same = Same.NOTHING
    share: float | None = None
    is_noisy: bool = False

    def allowed(self, limit: float) -> str:
        """What is allowed, as text."""
        if self.share is not None:
            return f"at most {limit:g} % longer"
        unit = "%" if self.change is Change.PERCENT else self.unit
        return " ".join(["at most", f"{limit:g}", *([unit] if unit else []), self.change.value.removeprefix("% ")])


def _whole(value: float | None) -> Values:
    return {} if value is None else {"": Value(value)}


def _errors(one: ArtifactFigures) -> Values:
    outputs = one.report.outputs if one.report else ()
    found = {f"output {each.output}": Value(each.error) for each in outputs if each.error is not None}
    return {**found, **_whole(one.error)}


def _retentions(one: ArtifactFigures) -> Values:
    blocks = one.report.blocks if one.report else ()
    found = {f"block {b.block}": Value(b.retention, b.low, b.high) for b in blocks if b.retention is not None}
    lowest = [value for value in found.values() if value.value == one.retention]
    return {**found, **({"": lowest[0]} if lowest else _whole(one.retention))}


def _agreements(one: ArtifactFigures) -> Values:
    outputs = one.report.outputs if one.report else ()
    return {f"output {each.output}": Value(100 * each.top1) for each in outputs if each.top1 is not None}


def _replay(one: ArtifactFigures) -> Replay | None:
    """The local replay, in the precisions in which right modules prove the outputs."""
    return one.replay if one.precision in DECIDES else None


def _module(one: ArtifactFigures) -> Values:
    """The largest one: modules may have other names in another network, and which are seen alone may change."""
    worst = replay.worst if (replay := _replay(one)) else None
    if worst is None or worst.ratio is None:
        return {}
    return {"": Value(worst.ratio, where=worst.module or "the network itself")}


def _replayed(one: ArtifactFigures) -> Values:
    replay = _replay(one)
    return _whole(100 * (replay.alone + replay.together) if replay else None)


def _sure(one: ArtifactFigures) -> Values:
    outputs = one.agreement.outputs if one.agreement else ()
    found = {f"output {each.output}": each.sure for each in outputs if each.sure is not None}
    return {name: Value(100 * sure.share, 100 * sure.low, 100 * sure.high) for name, sure in found.items()}


def _deviations(one: ArtifactFigures) -> Values:
    outputs = one.agreement.outputs if one.agreement else ()
    return {f"output {each.output}": Value(each.deviation) for each in outputs if each.deviation is not None}


def _share(share: Share | None) -> Values:
    return {"": Value(100 * share.value, 100 * share.low, 100 * share.high)} if share else {}


def _times(median: float, processes: Sequence[float]) -> Values:
    """The median over fresh processes, within the fastest and the slowest of them."""
    return {"": Value(median, min(processes), max(processes))}


def _milliseconds(one: ArtifactFigures, share: float) -> Values:
    """The quantile over all samples: shown only, because times are judged round by round."""
    import numpy as np

    return _whole(float(np.quantile(np.concatenate(one.measured.times()), share)) / 1e6 if one.measured else None)


FIGURES = (
    Figure("max_regression_percent", "time", 5, Change.PERCENT, "ms", lambda a: _milliseconds(a, UNDISTURBED),
           Same.TIME, share=UNDISTURBED),
    Figure("max_p90_percent", "p90", 100, Change.PERCENT, "ms", lambda a: _milliseconds(a, 0.90),
           Same.TIME, share=0.90),
    Figure("max_load_percent", "load time", 50, Change.PERCENT, "ms",
           lambda a: _times(a.measured.load_ms, [p.load_ms for p in a.measured.processes]) if a.measured else {},
           Same.TIME, is_noisy=True),
    Figure("max_first_percent", "first run", 100, Change.PERCENT, "ms",
           lambda a: _times(a.measured.first_ms, [p.first_ms for p in a.measured.processes]) if a.measured else {},
           Same.TIME, is_noisy=True),
    Figure("max_energy_percent", "energy", 25, Change.PERCENT, "mJ",
           lambda a: _whole(a.measured.energy.joules_per_inference * 1e3 if a.measured and a.measured.energy else None),
           Same.TIME),
    Figure("max_rss_percent", "memory", 10, Change.PERCENT, "MB",
           lambda a: _whole(a.measured.peak_rss / 1e6 if a.measured and a.measured.peak_rss is not None else None),
           Same.MACHINE),
    Figure("max_size_percent", "size", 2, Change.PERCENT, "MB", lambda a: _whole(a.size and a.size / 1e6)),
    Figure("max_instructions_percent", "instructions", 1, Change.PERCENT, "M",
           lambda a: {phase: Value(count / 1e6) for phase, count in a.instructions.items()}, Same.PROCESSOR),
    Figure("max_operators_percent", "operators", 10, Change.PERCENT, "",
           lambda a: _whole(sum(a.facts.operators.values()) if a.facts and a.facts.operators else None)),
    Figure("max_kept_operators", "operators left in float", 0, Change.MORE, "",
           lambda a: _whole(a.facts.quantized.kept_operators if a.facts and a.facts.quantized else None)),
    Figure("max_float_products", "products left in float", 0, Change.MORE, "",
           lambda a: _whole(a.facts.quantized.products - a.facts.quantized.quantized_products
                            if a.facts and a.facts.quantized else None)),
    Figure("max_dla_fallbacks", "operators that fall back from the DLA", 0, Change.MORE, "",
           lambda a: _whole(len(a.facts.tensorrt.dla.fallbacks)
                            if a.facts and a.facts.tensorrt and a.facts.tensorrt.dla else None)),
    Figure("max_error_more", "error", 2, Change.MORE, "noise floors", _errors, Same.PROBES),
    Figure("max_retention_less", "retention", 0.05, Change.LESS, "", _retentions, Same.PROBES, is_noisy=True),
    Figure("max_module_more", "error of a module by itself", 2, Change.MORE, "roundings", _module, Same.REPLAY),
    Figure("max_replayed_points", "multiply-adds seen by replay", 1, Change.LESS, "points", _replayed, Same.REPLAY),
    Figure("max_agreement_points", "agreement on the probes", 10, Change.LESS, "points", _agreements, Same.PROBES),
    Figure("max_sure_points", "agreement where PyTorch is sure", 5, Change.LESS, "points", _sure, Same.PROBES),
    Figure("max_deviation_more", "error relative to the variation", 0.05, Change.MORE, "", _deviations, Same.PROBES),
    Figure("max_top1_points", "top-1 accuracy", 1, Change.LESS, "points",
           lambda a: _share(a.accuracy.top1 if a.accuracy else None), Same.DATA),
    Figure("max_top5_points", "top-5 accuracy", 1, Change.LESS, "points",
           lambda a: _share(a.accuracy.top5 if a.accuracy else None), Same.DATA),
)  # fmt: skip
BY_KEY = {figure.key: figure for figure in FIGURES}
