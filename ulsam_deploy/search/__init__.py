"""``--precision auto``: the fastest artifact of a target within a stated budget, found by making and judging them."""

from ulsam_deploy.search.auto import Found, search
from ulsam_deploy.search.recipes import RECIPE, Recipes, read_recipes, recipes_text

__all__ = ["RECIPE", "Found", "Recipes", "read_recipes", "recipes_text", "search"]
