"""``--tune``: finds the fastest lowering of every block on one target, of those that pass proof and parity check.

Blocks of one geometry share a lowering. For each geometry, every lowering of the exporter is built into an artifact of
the whole network and timed in turns with the best one so far, which it replaces only if the whole interval of the ratio
is below one. So timing noise changes nothing: a lowering that is not clearly faster than the exporter's own choice does
not replace it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

from ulsam_deploy.device.errors import UnavailableError
from ulsam_deploy.device.findings import Interval, TunedChoice, Verdict
from ulsam_deploy.device.types import EvidenceLevel
from ulsam_deploy.exporting.build import Builder
from ulsam_deploy.exporting.options import Recipe
from ulsam_deploy.exporting.search.trial import Trial
from ulsam_deploy.exporting.search.trials import Trials
from ulsam_deploy.graph.interfaces import Exporter

__all__ = ["Choice", "Tuned", "tune"]


@dataclass(frozen=True)
class Choice:
    """One lowering that was tried for the blocks of ``geometry``.

    ``ratio`` is the network's time divided by that with the best lowering before; ``None`` if it was not timed because
    it is wrong or could not be made, as ``why`` explains.
    """

    geometry: str
    lowering: str
    ratio: Interval | None
    taken: bool
    why: str = ""


@dataclass(frozen=True)
class Tuned:
    """The outcome: ``recipe`` has the lowerings that differ from the exporter's own; ``choices`` are all trials."""

    recipe: Recipe
    choices: tuple[Choice, ...]

    def facts(self) -> tuple[TunedChoice, ...]:
        """For the manifest."""
        return tuple(TunedChoice(c.geometry, c.lowering, c.ratio, c.taken, c.why) for c in self.choices)


def tune(builder: Builder, exporter: Exporter) -> Tuned:
    """Find the recipe of the fastest fp32 artifact of ``exporter``.

    Raises:
        UnavailableError: No engine here can run the artifacts, so none can be timed.
    """
    geometries = list(dict.fromkeys(block.geometry for block in builder.prepared.card.blocks))
    best, choices = Recipe(), list[Choice]()
    if not exporter.lowerings or not geometries:
        return Tuned(best, ())
    with Trials(builder, exporter) as trials:
        if trials(best).verdict is Verdict.UNVERIFIED:
            raise UnavailableError(
                f"--tune times {exporter.target} artifacts, and nothing here can run them",
                expected=f"the level '{EvidenceLevel.EXECUTED.label}'",
                todo="export without --tune, or where its engine is",
            )
        for geometry in geometries:
            best = _fastest(trials, best, geometry, exporter.lowerings, choices)
    return Tuned(best, tuple(choices))


def _fastest(trials: Trials, best: Recipe, geometry: str, lowerings: Sequence[str], choices: list[Choice]) -> Recipe:
    """``best``, or a recipe that differs from it in the blocks of ``geometry`` and is clearly faster."""
    start, own = best, set(trials.lowerings(best, geometry))
    for name in lowerings:
        if own == {name}:
            continue
        recipe = dataclasses.replace(start, lowerings=(*start.lowerings, (geometry, name)))
        if why := _wrong(trials(recipe)):
            choices.append(Choice(geometry, name, None, False, why))
            continue
        ratio = trials.ratio(recipe, best)
        faster = ratio.high is not None and ratio.high < 1.0
        choices.append(Choice(geometry, name, ratio, faster))
        best = recipe if faster else best
    return best


def _wrong(trial: Trial) -> str:
    """Why ``trial`` cannot be chosen, however fast it is."""
    return trial.failure or ("" if trial.verdict is not Verdict.FAIL else trial.reason)
