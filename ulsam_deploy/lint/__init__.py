"""What can be said about a model before any engine sees it: static checks by the vendors' documented limits."""

from ulsam_deploy.lint.dla import DlaPlan, plan_dla
from ulsam_deploy.lint.graph import Finding
from ulsam_deploy.lint.tensorrt import lint_tensorrt

__all__ = ["DlaPlan", "Finding", "lint_tensorrt", "plan_dla"]
