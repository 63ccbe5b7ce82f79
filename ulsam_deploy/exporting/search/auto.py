"""The search for one target: whole precisions first, then which modules int8 must not quantize, then timing.

1. Try fp32, and every lower precision of the target as a whole.
2. If plain int8 does not keep to the budget, find the fewest parts of the network, then the fewest of their modules,
   that the target's own artifact needs in floating point (:mod:`ulsam_deploy.exporting.search.strategy`). Parts are
   tried in the order of the harm that each does alone in int8, which is measured in torch, once for all targets
   (:mod:`ulsam_deploy.graph.sensitivity`).
3. Of the artifacts within the budget, take the fastest (:func:`ulsam_deploy.exporting.search.trial.fastest`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ulsam_deploy.device.errors import ExportError, UnavailableError
from ulsam_deploy.device.findings import AutoFacts, AutoPoint, BudgetLimits, Interval, Verdict
from ulsam_deploy.device.precisions import CALIBRATED, QUANTIZED, SEARCHED
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
    """The outcome of a search.

    Attributes:
        recipe: The chosen recipe; fp32 if nothing is within the budget.
        met: Whether it is within ``budget``.
        sentence: The outcome in one sentence.
        trials: All trials.
        best: Those that no other trial beats in both time and deviation.
        missed: By a trial's label, which limits of the budget it misses.
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
    """Find the fastest artifact of ``exporter`` within the budget of the options; fp32 if there is none.

    Raises:
        UnavailableError: No engine here can run the artifacts, so none can be judged.
        ExportError: Not even fp32 can be made.
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
    for precision in (one for one in exporter.precisions if one in SEARCHED):
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
    """Paths and MACs, as parallel sequences, of every module that int8 can quantize."""

    paths: tuple[str, ...]
    macs: tuple[int, ...]


def _products(builder: Builder) -> Sequence[tuple[str, int]]:
    """Path and MACs of every module that int8 can quantize."""

    def compute() -> _Products:
        from ulsam_deploy.graph.sensitivity import products

        found = products(builder.prepared.network.fused().program)
        return _Products(tuple(product.path for product in found), tuple(product.macs for product in found))

    known = builder.workspace.value(_Products, [builder.prepared.network.key], compute)
    return list(zip(known.paths, known.macs))


@dataclass(frozen=True)
class _Damage:
    """By part, the harm it does alone in int8: attention lost, and error in tolerances."""

    parts: Mapping[str, float]


def _damage(builder: Builder, parts: Sequence[NetworkPart], alive: Sequence[str]) -> Mapping[str, float]:
    """By part, the harm it does alone in int8: attention lost from the blocks ``alive``, and error in tolerances."""

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
    """Time the trials within the budget, and the whole precisions for comparison, and choose."""
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
