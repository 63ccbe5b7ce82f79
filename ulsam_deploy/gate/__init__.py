"""The gate: compares two results of ``bench`` under a file of budgets; pass, fail or inconclusive."""

from ulsam_deploy.gate.budgets import DEFAULT, DeviceBudget, budgets_for, read_budgets
from ulsam_deploy.gate.decide import CompareDocument, LimitFinding, decide, obstacles

__all__ = [
    "DEFAULT",
    "CompareDocument",
    "DeviceBudget",
    "LimitFinding",
    "budgets_for",
    "decide",
    "obstacles",
    "read_budgets",
]
