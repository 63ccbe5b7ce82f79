"""The search for one target: whole precisions first, then which modules int8 must leave alone, then the clock.

1. fp32, and every lower precision of the target as a whole.
2. Where plain int8 does not keep to the budget: what each part of the network does alone in int8, found once
   for all targets in torch (:mod:`ulsam_deploy.graph.sensitivity`), gives the order; the fewest parts, then the
   fewest modules of them, that the target's own artifact needs kept (:mod:`ulsam_deploy.exporting.search.strategy`).
3. Of what keeps to the budget, the fastest by measured time (:func:`ulsam_deploy.exporting.search.trial.fastest`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ulsam_deploy.device.errors import ExportError, UnavailableError
from ulsam_deploy.device.findings import AutoFacts, AutoPoint, BudgetLimits, Interval, Verdict
from ulsam_deploy.device.precisions import CALIBRATED, QUANTIZED
from ulsam_deploy.device.types import EvidenceLevel
from ulsam_deploy.exporting.budget import Budget
from ulsam_deploy.exporting.build import Builder
from ulsam_deploy.exporting.options import Recipe
from ulsam_deploy.exporting.search.strategy import NetworkPart, parts_of, smallest_keep
from ulsam_deploy.exporting.search.trial import Trial, fastest, misses, undominated
from ulsam_deploy.exporting.search.trials import Trials
from ulsam_deploy.graph.interfaces import Exporter

__all__ = ["Found", "search"]

FP32 = Recipe()


@dataclass(frozen=True)
class Found:
    """The outcome: ``recipe``, and whether it is within ``budget`` (``met``); ``fp32`` where nothing is.

    ``sentence`` says so in words. ``trials``: all of them; ``best``: those that no other one beats in both time and
    deviation; ``missed``: by a trial's label, where it lies outside the budget.
    """

    recipe: Recipe
    met: bool
    sentence: str
    budget: Budget
    trials: tuple[Trial, ...]
    best: tuple[Trial, ...]
    missed: Mapping[str, tuple[str, ...]]

    def facts(self) -> AutoFacts:
        """For the manifest: ``points`` are the trials that were timed."""
        budget = BudgetLimits(self.budget.drop, self.budget.error, self.budget.retention, self.budget.size)
        points = tuple(self._point(trial, trial.ratio) for trial in self.trials if trial.ratio)
        return AutoFacts(budget, self.met, self.sentence, len(self.trials), points)

    def _point(self, trial: Trial, ratio: Interval) -> AutoPoint:
        return AutoPoint(
            precision=trial.recipe.precision,
            keep=trial.recipe.keep,
            size=trial.size,
            verdict=trial.verdict,
            error=trial.error,
            deviation=trial.deviation,
            retention=trial.retention,
            drop=trial.drop,
            ratio=ratio,
            reason=trial.reason,
            pareto=trial in self.best,
            chosen=trial.recipe == self.recipe,
            missed=self.missed[trial.label],
        )


def search(builder: Builder, exporter: Exporter) -> Found:
    """The fastest artifact of ``exporter`` within the budget of the options, fp32 where there is none.

    Raises :class:`UnavailableError` where no engine here can run what is made, so that nothing could be judged, and
    :class:`ExportError` where not even fp32 can be made.
    """
    with Trials(builder, exporter) as trials:
        return _searched(builder, exporter, trials)


def _searched(builder: Builder, exporter: Exporter, trials: Trials) -> Found:
    budget, fp32 = builder.options.budget, trials(FP32)
    if fp32.failure:
        raise ExportError(f"{exporter.target} in fp32: {fp32.failure}", expected="an fp32 artifact to start from")
    if fp32.verdict is Verdict.UNVERIFIED:
        raise UnavailableError(
            f"--precision auto judges {exporter.target} artifacts by running them, and nothing here can",
            expected=f"the level '{EvidenceLevel.EXECUTED.label}'",
            todo="export it in a stated precision, or where its engine is",
        )
    keep = builder.options.keep
    for precision in exporter.precisions:
        if precision in QUANTIZED:
            trials(Recipe(precision, keep))
        elif precision != "fp32":
            trials(Recipe(precision))

    def holds(recipe: Recipe) -> bool:
        return not misses(trials(recipe), budget, fp32)[0]

    for precision in CALIBRATED:
        plain = Recipe(precision, keep)
        if precision in exporter.precisions and not holds(plain) and not trials(plain).failure:
            parts = parts_of(dict(_products(builder)))
            damage = _damage(builder, parts, fp32.alive)
            smallest_keep(parts, damage, lambda paths, p=precision: holds(Recipe(p, (*keep, *paths))))  # type: ignore[misc]
    return _concluded(trials, budget, fp32)


@dataclass(frozen=True)
class _Products:
    """Paths and MACs, in parallel, of every module that int8 is for."""

    paths: tuple[str, ...]
    macs: tuple[int, ...]


def _products(builder: Builder) -> Sequence[tuple[str, int]]:
    """Path and MACs of every module that int8 is for."""

    def compute() -> _Products:
        from ulsam_deploy.graph.sensitivity import products

        found = products(builder.prepared.network.fused().program)
        return _Products(tuple(product.path for product in found), tuple(product.macs for product in found))

    known = builder.workspace.value(_Products, [builder.prepared.network.key], compute)
    return list(zip(known.paths, known.macs))


@dataclass(frozen=True)
class _Damage:
    """By part, what it alone does in int8: attention lost, and error in tolerances."""

    parts: Mapping[str, float]


def _damage(builder: Builder, parts: Sequence[NetworkPart], alive: Sequence[str]) -> Mapping[str, float]:
    """By part, what it alone does in int8: attention lost from the blocks ``alive``, and error in tolerances."""

    def compute() -> _Damage:
        from ulsam_deploy.graph.sensitivity import sensitivity

        fused = builder.prepared.network.fused()
        assert fused.split
        modules = [list(part.modules) for part in parts]
        with builder.progress.stage("int8 part by part") as said:
            reports = sensitivity(fused.program, builder.prepared.golden, fused.split.ranges, modules)
            said.append(f"{len(parts)} parts in torch")
        found = {}
        for part, report in zip(parts, reports):
            known = [b.retention for b in report.blocks if b.block in alive and b.retention is not None]
            lost = sum(max(0.0, 1.0 - retention) for retention in known)
            found[part.path] = lost + min(report.error / report.tolerance, 100.0)
        return _Damage(found)

    paths = [[part.path, *part.modules] for part in parts]
    return builder.workspace.value(_Damage, [builder.prepared.network.key, paths, list(alive)], compute).parts


def _concluded(trials: Trials, budget: Budget, fp32: Trial) -> Found:
    """Time what keeps to the budget, and the whole precisions to compare with; choose."""
    missed = {trial.recipe: misses(trial, budget, fp32) for trial in trials.tried}
    within = [recipe for recipe, (wrong, large) in missed.items() if not wrong and not large]
    whole = [trial.recipe for trial in trials.tried if not trial.recipe.keep]
    for recipe in dict.fromkeys([FP32, *whole, *within]):
        trials.timed(recipe, FP32)
    found = [trial for trial in trials.tried if trial.recipe in within]
    chosen = fastest(found) if found else trials(FP32)
    best = undominated(trials.tried)
    words = {trial.label: (*missed[trial.recipe][0], *missed[trial.recipe][1]) for trial in trials.tried}
    sentence = _sentence(chosen, bool(found), words, trials, budget)
    return Found(chosen.recipe, bool(found), sentence, budget, trials.tried, tuple(best), words)


def _sentence(chosen: Trial, met: bool, missed: Mapping[str, Sequence[str]], trials: Trials, budget: Budget) -> str:
    count = len(trials.tried)
    limits = budget.sentence(any(trial.drop for trial in trials.tried))
    if met:
        return f"auto chose {chosen.short}: the fastest of {count} recipes within the budget ({limits})"
    judged = [trial for trial in trials.tried if not trial.failure]
    nearest = min(judged, key=lambda trial: (len(missed[trial.label]), trial.size))
    why = f". {nearest.reason.rstrip('.')}" if nearest.reason else ""
    return (
        f"auto found nothing within the budget ({limits}) among {count} recipes, and made fp32; nearest was "
        f"{nearest.short}: {'; '.join(missed[nearest.label])}{why}"
    )
