"""Decides whether a build is as good as its baseline: every artifact, part and figure, and the limits of budgets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ulsam_deploy.device.commands.answer import schema_field
from ulsam_deploy.device.findings import Verdict
from ulsam_deploy.device.spelling import meant
from ulsam_deploy.gate.budgets import DeviceBudget, allowance, budgets_for
from ulsam_deploy.gate.build import ArtifactFigures, Build
from ulsam_deploy.gate.changes import Pair, changes, gone, lost
from ulsam_deploy.gate.figures import FIGURES
from ulsam_deploy.gate.limits import LimitFinding, limits

__all__ = ["CompareDocument", "decide"]


@dataclass(frozen=True)
class CompareDocument:
    """``compare``: every figure that the baseline has, and every limit of the budgets that applies to an artifact."""

    findings: tuple[LimitFinding, ...]
    exit_code: int
    schema: str = schema_field("compare", 2)


def decide(
    baseline: Build, current: Build, budgets: Sequence[DeviceBudget] = (), *, allow_unknown: bool = False
) -> list[LimitFinding]:
    """Compare every artifact with the baseline's, and decide every limit of ``budgets`` that applies, in that order.

    A budget for this machine whose artifact was not measured is inconclusive.

    Args:
        baseline: The earlier build.
        current: The build to judge.
        budgets: They change what a figure may lose, and add limits of their own.
        allow_unknown: Accept machines that do not report clocks, temperature or throttling, such as virtual machines.
    """
    found = [lost("all", baseline.parts, current.parts)] if baseline.parts else []
    for label, before in baseline.artifacts.items():
        after = current.artifacts.get(label)
        if after is None:
            found.append(gone(label, current.left_out.get(label, "")))
            continue
        applying = budgets_for(budgets, after, current.board)
        allowed = {figure.key: allowance(applying, figure) for figure in FIGURES}
        found += changes(Pair(baseline, current, before, after, allow_unknown), allowed)
    for one in current.artifacts.values():
        if one.label not in baseline.artifacts:
            found.append(_new(one))
        for budget in budgets_for(budgets, one, current.board):
            found += limits(one, budget, allow_unknown)
    for budget in budgets:
        if budget.on(current.board) and not any(
            budget.is_for(one, current.board) for one in current.artifacts.values()
        ):
            found.append(_unmeasured(budget, current))
    return found


def _new(one: ArtifactFigures) -> LimitFinding:
    text = f"{one.label}: the baseline has no such artifact, so that there is nothing to compare it with."
    return LimitFinding(one.label, "presence", "none", "there", "", Verdict.INCONCLUSIVE, text)


def _unmeasured(budget: DeviceBudget, current: Build) -> LimitFinding:
    label = f"{budget.target} {budget.precision}"
    why = next((why for name, why in current.left_out.items() if name.split()[0] == budget.target), "")
    targets = {one.target for one in current.artifacts.values()}
    near = "" if why else meant(budget.target, targets - {budget.target})
    text = f"There is a budget for {label}, and nothing of that kind was measured. {why or near}".strip()
    return LimitFinding(label, "measured", "", "no", "yes", Verdict.INCONCLUSIVE, text)
