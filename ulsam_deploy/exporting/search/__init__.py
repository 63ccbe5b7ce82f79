"""Searches that make, judge and time artifacts: ``--precision auto`` within a budget, ``--tune`` among lowerings."""

from ulsam_deploy.exporting.search.auto import Found, search
from ulsam_deploy.exporting.search.recipes import RECIPE, Recipes, read_recipes, recipes_text
from ulsam_deploy.exporting.search.tune import Tuned, tune

__all__ = ["RECIPE", "Found", "Recipes", "Tuned", "read_recipes", "recipes_text", "search", "tune"]
