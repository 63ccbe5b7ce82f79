"""The gate: holds a build against an earlier one, figure by figure; pass, fail or inconclusive."""

from ulsam_deploy.gate.budgets import DeviceBudget, budgets_for, read_budgets
from ulsam_deploy.gate.build import ArtifactFigures, Build, of_bundle, of_result, of_verified
from ulsam_deploy.gate.decide import CompareDocument, decide
from ulsam_deploy.gate.figures import FIGURES, Figure
from ulsam_deploy.gate.limits import LimitFinding

__all__ = [
    "FIGURES",
    "ArtifactFigures",
    "Build",
    "CompareDocument",
    "DeviceBudget",
    "Figure",
    "LimitFinding",
    "budgets_for",
    "decide",
    "of_bundle",
    "of_result",
    "of_verified",
    "read_budgets",
]
