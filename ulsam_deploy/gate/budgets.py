"""Budgets of an artifact on a device, read from TOML: limits, and what may be lost against the baseline.

An unknown key is an error.
"""

from __future__ import annotations

import dataclasses
import fnmatch
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ulsam_deploy.device import codec, toml
from ulsam_deploy.device.errors import UsageError
from ulsam_deploy.device.precisions import parse_precision
from ulsam_deploy.device.spelling import nearest, unknown
from ulsam_deploy.device.targets import canonical
from ulsam_deploy.gate.build import ArtifactFigures
from ulsam_deploy.gate.figures import BY_KEY, Figure

__all__ = ["LIMITS", "DeviceBudget", "allowance", "budgets_for", "read_budgets"]

#: The characters that make a name a shell pattern.
_PATTERN = frozenset("*?[")
_NOT_NEGATIVE: dict[str, Any] = {"minimum": 0}
#: The keys that are limits whatever the baseline.
LIMITS = ("max_error", "min_retention", "max_p90_ms", "max_size_mb", "max_rss_mb", "max_energy_mj")

_WHERE = ("target", "precision", "device")
_KEYS = (*LIMITS, *BY_KEY)


@dataclass(frozen=True)
class DeviceBudget:
    """One ``[[budget]]``: the artifacts it applies to, and its limits; ``None``: no limit.

    ``target``, ``precision`` and ``device`` are shell patterns (``*``, ``?``, ``[...]``); the device's is matched with
    the board's own name, or the processor's if the board has none. ``max_error`` is in noise floors, ``max_p90_ms`` in
    milliseconds, sizes are in MB (10^6 bytes), ``max_energy_mj`` in millijoules for each inference. ``losses``: how
    much worse than in the baseline a figure may be, by the key of :data:`~ulsam_deploy.gate.figures.FIGURES`; in a file
    these keys stand beside the others.
    """

    target: str = "*"
    precision: str = "*"
    device: str = "*"
    max_error: float | None = field(default=None, metadata=_NOT_NEGATIVE)
    min_retention: float | None = field(default=None, metadata=_NOT_NEGATIVE)
    max_p90_ms: float | None = field(default=None, metadata=_NOT_NEGATIVE)
    max_size_mb: float | None = field(default=None, metadata=_NOT_NEGATIVE)
    max_rss_mb: float | None = field(default=None, metadata=_NOT_NEGATIVE)
    max_energy_mj: float | None = field(default=None, metadata=_NOT_NEGATIVE)
    losses: Mapping[str, float] = field(default_factory=dict, metadata=_NOT_NEGATIVE)

    def is_for(self, one: ArtifactFigures, board: str) -> bool:
        """Whether this budget applies to that artifact on the machine called ``board``."""
        return self.on(board) and all(
            fnmatch.fnmatchcase(name, pattern)
            for name, pattern in ((one.target, self.target), (one.precision, self.precision))
        )

    def on(self, board: str) -> bool:
        """Whether this budget applies to the machine called ``board``."""
        return fnmatch.fnmatchcase(board, self.device)


def read_budgets(path: Path) -> tuple[DeviceBudget, ...]:
    """Read the ``[[budget]]`` tables of a TOML file, in their order.

    Raises:
        UsageError: The file is unreadable, not TOML or without a budget, a key is unknown or has the wrong type, or a
            budget has no limit. The message names the file and the key.
    """
    document = toml.read(path)
    for key in document:
        if key != "budget":
            todo = "put each budget under [[budget]]"
            raise unknown(f"{path}: unknown key '{key}'", key, ["budget"], expected="[[budget]] tables", todo=todo)
    tables = document.get("budget", [])
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        raise UsageError(
            f"{path}: 'budget' is not a list of tables",
            expected="[[budget]], in two brackets, with any of " + ", ".join(_KEYS),
            todo="write such tables: a single [budget] is what 'export --precision auto' takes",
        )
    if not tables:
        raise UsageError(f"{path} holds no budget", expected="at least one [[budget]] table")
    return tuple(_budget(table, f"{path} [[budget]] {number}") for number, table in enumerate(tables, 1))


def _budget(table: dict[str, object], source: str) -> DeviceBudget:
    for key in table:
        if key not in (*_WHERE, *_KEYS):
            near = nearest(key, (*_WHERE, *_KEYS), cutoff=0.0)
            expected = f"{', '.join((*_WHERE, *_KEYS))} (nearest: '{near}')"
            raise UsageError(f"{source}: unknown key '{key}'", expected=expected)
    if not any(key in _KEYS for key in table):
        raise UsageError(f"{source} limits nothing", expected=", ".join(_KEYS))
    losses = {key: value for key, value in table.items() if key in BY_KEY}
    defaults = {each.name: each.default for each in dataclasses.fields(DeviceBudget)}
    endless = {key: value for key, value in losses.items() if value == math.inf}  # how a figure is left out
    plain = {**defaults, **{key: value for key, value in table.items() if key not in BY_KEY}}
    plain["losses"] = {**losses, **dict.fromkeys(endless, 0.0)}
    budget = codec.decode(DeviceBudget, plain, source, UsageError)
    return _canonical(dataclasses.replace(budget, losses={**budget.losses, **dict.fromkeys(endless, math.inf)}))


def _canonical(budget: DeviceBudget) -> DeviceBudget:
    """``budget`` with the canonical names that results use instead of aliases; patterns stay as they are."""
    target = budget.target if _PATTERN & set(budget.target) else canonical(budget.target)
    precision = budget.precision if _PATTERN & set(budget.precision) else parse_precision(budget.precision)
    return dataclasses.replace(budget, target=target, precision=precision)


def budgets_for(budgets: Sequence[DeviceBudget], one: ArtifactFigures, board: str) -> list[DeviceBudget]:
    """The budgets that apply to ``one``; all of them must hold, so the strictest decides."""
    return [budget for budget in budgets if budget.is_for(one, board)]


def allowance(budgets: Sequence[DeviceBudget], figure: Figure) -> float:
    """How much worse ``figure`` may be: the least that ``budgets`` state, its default if none does."""
    return min((each.losses[figure.key] for each in budgets if figure.key in each.losses), default=figure.default)
