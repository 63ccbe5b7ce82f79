"""``recipe.toml``: how each target's artifact was made; ``--recipe`` makes the same one again."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ulsam_deploy.device import toml
from ulsam_deploy.device.errors import UsageError
from ulsam_deploy.device.precisions import PRECISIONS, QUANTIZED, parse_precision
from ulsam_deploy.device.targets import canonical
from ulsam_deploy.exporting.options import Recipe

__all__ = ["RECIPE", "Recipes", "read_recipes", "recipes_text"]

#: The file's name in a bundle.
RECIPE = "recipe.toml"
SCHEMA = "ulsam-deploy.recipe/1"
_TODO = f"give the {RECIPE} of a bundle that was made with --precision auto or --tune, or write one like it"


@dataclass(frozen=True)
class Recipes:
    """A recipe for each target, and the SHA-256 of the checkpoint that they were found for."""

    model: str
    targets: Mapping[str, Recipe]


def recipes_text(recipes: Recipes) -> str:
    """The recipes as TOML; the same recipes give the same text."""
    lines = [
        "# The choices of ulsam-deploy export --precision auto or --tune. The same artifacts from the same checkpoint",
        "# (and calibration set) are made by: ulsam-deploy export MODEL --recipe recipe.toml [--calibration FILE]",
        f'schema = "{SCHEMA}"',
        f'model = "{recipes.model}"',
    ]
    for target, recipe in recipes.targets.items():
        key = target if target.isidentifier() and target.isascii() else _text(target)
        lines += ["", f"[targets.{key}]", f'precision = "{recipe.precision}"']
        if recipe.keep:
            lines += ["keep = [", *(f"    {_text(path)}," for path in recipe.keep), "]"]
        if recipe.lowerings:
            chosen = (f"{_text(geometry)} = {_text(name)}" for geometry, name in recipe.lowerings)
            lines += ["", f"[targets.{key}.lowerings]", *chosen]
    return "\n".join(lines) + "\n"


def _text(value: str) -> str:
    return json.dumps(value, ensure_ascii=False)  # as in JSON, except that TOML forbids surrogate pairs


def read_recipes(path: Path) -> Recipes:
    """Read the recipes in ``path``; raises :class:`UsageError` for anything else."""
    content = toml.read(path, f"the recipe '{path}'", expected="a TOML file", todo=_TODO)
    if content.get("schema") != SCHEMA or set(content) != {"schema", "model", "targets"}:
        raise UsageError(
            f"'{path}' holds {', '.join(sorted(content)) or 'nothing'}", expected=f"schema {SCHEMA}", todo=_TODO
        )
    targets = content["targets"]
    if not isinstance(content["model"], str) or not isinstance(targets, dict) or not targets:
        raise UsageError(f"'{path}' names no targets", expected="a table [targets.NAME] for each", todo=_TODO)
    recipes = {canonical(name): _recipe(table, f"'{path}', {name}") for name, table in targets.items()}
    if len(recipes) < len(targets):
        raise UsageError(f"'{path}' names a target twice: {', '.join(targets)}", expected="one table for each")
    return Recipes(content["model"], recipes)


def _recipe(table: object, where: str) -> Recipe:
    if not isinstance(table, dict) or set(table) - {"precision", "keep", "lowerings"}:
        raise UsageError(
            f"{where}: {table!r} is not a recipe", expected="precision, and keep where it is int8", todo=_TODO
        )
    precision, keep, lowerings = table.get("precision"), table.get("keep", []), table.get("lowerings", {})
    if not isinstance(precision, str):
        raise UsageError(f"{where}: the precision is {precision!r}", expected=", ".join(PRECISIONS))
    try:
        precision = parse_precision(precision)
    except UsageError as error:
        raise UsageError(f"{where}: {error.found}", expected=error.expected) from error
    if not isinstance(keep, list) or not all(isinstance(path, str) for path in keep):
        raise UsageError(f"{where}: keep is {keep!r}", expected="a list of module paths")
    if keep and precision not in QUANTIZED:
        raise UsageError(f"{where}: {precision} keeps modules", expected=f"keep for {' and '.join(QUANTIZED)} only")
    if not isinstance(lowerings, dict) or not all(isinstance(name, str) for name in lowerings.values()):
        raise UsageError(f"{where}: lowerings are {lowerings!r}", expected="a table of names by geometry")
    if lowerings and precision != "fp32":
        raise UsageError(f"{where}: {precision} chooses lowerings", expected="lowerings for fp32 only")
    return Recipe(precision, tuple(keep), tuple(lowerings.items()))
