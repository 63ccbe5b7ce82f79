"""The gate: two results of ``bench`` and a file of budgets in, pass, fail or inconclusive out."""

from ulsam_deploy.gate.budgets import DEFAULT, Budget, budgets_for, read_budgets
from ulsam_deploy.gate.decide import CompareDocument, Finding, decide, obstacles

__all__ = ["DEFAULT", "Budget", "CompareDocument", "Finding", "budgets_for", "decide", "obstacles", "read_budgets"]
