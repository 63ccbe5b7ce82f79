"""One trial of a recipe: what was measured, which limits of the budget it misses, and how trials are ranked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ulsam_deploy.device.bundle import Evidence
from ulsam_deploy.device.findings import AttentionState, Interval, OutputCheck, Paired, Verdict
from ulsam_deploy.device.precisions import PRECISIONS
from ulsam_deploy.exporting.budget import DROP, Budget
from ulsam_deploy.exporting.options import Recipe

__all__ = ["Trial", "fastest", "judgement", "misses", "undominated"]


@dataclass(frozen=True)
class Trial:
    """The result of one recipe.

    Attributes:
        failure: The message if the converter refused the recipe; nothing else is known then.
        error: The error in noise floors of its precision; ``None`` if an output could not be compared.
        deviation: The same relative to the output's size.
        retention: By block.
        alive: The blocks whose attention is certainly kept.
        drop: Against PyTorch, if there is labelled data.
        ratio: Its time divided by fp32's, measured in turns; ``None`` if not measured.
        reason: The first reason that its check gave, if any.
    """

    recipe: Recipe
    size: int = 0
    verdict: Verdict = Verdict.UNVERIFIED
    error: float | None = None
    deviation: float | None = None
    retention: Mapping[str, float | None] = field(default_factory=dict)
    alive: tuple[str, ...] = ()
    drop: Paired | None = None
    ratio: Interval | None = None
    reason: str = ""
    failure: str = ""

    @property
    def label(self) -> str:
        """The recipe as text: ``int8, keep features.3``."""
        kept = ["keep " + " ".join(self.recipe.keep)] if self.recipe.keep else []
        forms = [f"{geometry}: {name}" for geometry, name in self.recipe.lowerings]
        return ", ".join([self.recipe.precision, *kept, *forms])

    @property
    def short(self) -> str:
        """The recipe without the modules' names: ``int8, 3 kept``."""
        kept = len(self.recipe.keep)
        return self.recipe.precision + (f", {kept} kept" if kept else "")

    @property
    def least(self) -> float | None:
        """The smallest retention of any block that has one."""
        return min((value for value in self.retention.values() if value is not None), default=None)


def judgement(recipe: Recipe, evidence: Evidence, size: int) -> Trial:
    """The trial that ``evidence`` describes."""
    outputs = evidence.parity.outputs if evidence.parity else ()
    blocks = evidence.parity.blocks if evidence.parity else ()
    error = evidence.parity.finite_error if evidence.parity else None
    return Trial(
        recipe,
        size,
        evidence.verdict,
        error=error,
        deviation=None if error is None else max(map(_deviation, outputs)),
        retention={block.block: block.retention for block in blocks},
        alive=tuple(block.block for block in blocks if block.state is AttentionState.KEPT),
        reason=evidence.reasons[0].text if evidence.reasons else "",
    )


def _deviation(output: OutputCheck) -> float:
    """The error of one comparable output, relative to its size."""
    return (output.error or 0.0) * (output.floor.of(output.statistic) if output.statistic else 0.0)


def misses(trial: Trial, budget: Budget, fp32: Trial) -> tuple[list[str], list[str]]:
    """List the limits of ``budget`` that ``trial`` misses: first those on its results, then the one on its size.

    ``fp32`` is the trial of the same target in fp32: blocks kept there must be kept, and sizes in percent refer to it.
    """
    if trial.failure:
        return [trial.failure], []
    said = []
    if trial.error is None or trial.error > budget.error:
        said.append(f"error {_floors(trial.error)}")
    for block in fp32.alive:
        value = trial.retention.get(block)
        if value is None or value < budget.retention:
            said.append(f"retention of {block} {'unknown' if value is None else f'{value:.3f}'}")
    limit = DROP if budget.drop is None else budget.drop
    if trial.drop and 100 * trial.drop.drop > limit + 1e-9:
        said.append(f"{100 * trial.drop.drop:.2f} points of top-1 lost")
    if trial.verdict is not Verdict.PASS and not said:
        said.append(f"its check says {trial.verdict.value}")
    most = budget.bytes(fp32.size)
    return said, [f"{trial.size} bytes of {most:.0f}"] if most is not None and trial.size > most else []


def _floors(error: float | None) -> str:
    return "beyond measure" if error is None else f"{error:.2f} noise floors"


def fastest(trials: Sequence[Trial]) -> Trial:
    """The fastest of ``trials``, all of them timed; the smallest of those that are equally fast.

    Times whose intervals overlap count as equal, so that timing noise alone decides nothing. Equally fast trials are
    ranked by size, then by the number of kept modules, then by name, so that the choice is the same on every run.
    """
    timed = [(trial, trial.ratio) for trial in trials if trial.ratio]
    best = min((ratio for _, ratio in timed), key=lambda ratio: ratio.estimate)
    high = best.estimate if best.high is None else best.high
    equal = [trial for trial, ratio in timed if (ratio.estimate if ratio.low is None else ratio.low) <= high]
    return min(equal, key=lambda t: (t.size, len(t.recipe.keep), PRECISIONS.index(t.recipe.precision), t.recipe.keep))


def undominated(trials: Sequence[Trial]) -> list[Trial]:
    """The timed trials that no other one beats in both time and deviation, the fastest first."""
    points = [(t, t.ratio.estimate, t.deviation) for t in trials if t.ratio and t.deviation is not None]
    best = [
        (time, trial)
        for trial, time, off in points
        if not any(t <= time and o <= off and (t, o) != (time, off) for _, t, o in points)
    ]
    return [trial for _, trial in sorted(best, key=lambda pair: pair[0])]
