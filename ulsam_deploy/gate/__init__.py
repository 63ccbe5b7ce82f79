"""The gate: two results of ``bench`` and a file of budgets in, pass, fail or inconclusive out."""

from ulsam_deploy.gate.budgets import DEFAULT, DeviceBudget, budgets_for, read_budgets
from ulsam_deploy.gate.decide import LimitFinding, decide, obstacles

__all__ = ["DEFAULT", "DeviceBudget", "LimitFinding", "budgets_for", "decide", "obstacles", "read_budgets"]
