"""The search that makes, judges and times artifacts: ``--precision auto``, by a budget."""

from ulsam_deploy.exporting.search.auto import Found, search
from ulsam_deploy.exporting.search.recipes import RECIPE, Recipes, read_recipes, recipes_text

__all__ = ["RECIPE", "Found", "Recipes", "read_recipes", "recipes_text", "search"]
