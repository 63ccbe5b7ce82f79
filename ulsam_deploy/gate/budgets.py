"""Budgets for the cost of an artifact on a device, read from TOML; an unknown key is an error."""

from __future__ import annotations

import dataclasses
import fnmatch
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ulsam_deploy.device import codec, toml
from ulsam_deploy.device.bench.result import Machine, Measured
from ulsam_deploy.device.errors import UsageError
from ulsam_deploy.device.precisions import parse_precision
from ulsam_deploy.device.spelling import unknown
from ulsam_deploy.device.targets import canonical

__all__ = ["DEFAULT", "LIMITS", "DeviceBudget", "budgets_for", "read_budgets"]

#: The characters that make a name a shell pattern.
_PATTERN = frozenset("*?[")
_NOT_NEGATIVE: dict[str, Any] = {"minimum": 0}
#: The keys that are limits.
LIMITS = (
    "max_error", "min_retention", "max_p90_ms", "max_size_mb", "max_rss_mb", "max_energy_mj", "max_regression_percent"
)  # fmt: skip


@dataclass(frozen=True)
class DeviceBudget:
    """One ``[[budget]]``: the artifacts it applies to, and its limits; ``None``: no limit.

    ``target``, ``precision`` and ``device`` are shell patterns (``*``, ``?``, ``[...]``); the device's is matched with
    the board's own name, or the processor's if the board has none. ``max_error`` is in noise floors, ``max_p90_ms`` in
    milliseconds, sizes are in MB (10^6 bytes), ``max_energy_mj`` in millijoules for each inference, and
    ``max_regression_percent`` is how much longer it may take than in the baseline.
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
    max_regression_percent: float | None = field(default=None, metadata=_NOT_NEGATIVE)

    def is_for(self, measured: Measured, machine: Machine) -> bool:
        """Whether this budget applies to that artifact on that machine."""
        return self.on(machine) and all(
            fnmatch.fnmatchcase(name, pattern)
            for name, pattern in ((measured.target, self.target), (measured.precision, self.precision))
        )

    def on(self, machine: Machine) -> bool:
        """Whether this budget applies to that machine."""
        return fnmatch.fnmatchcase(machine.board or machine.cpu or "", self.device)


#: The budget if no file is given.
DEFAULT = (DeviceBudget(max_regression_percent=5.0),)


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
            expected="[[budget]], in two brackets, with any of " + ", ".join(LIMITS),
            todo="write such tables: a single [budget] is what 'export --precision auto' takes",
        )
    if not tables:
        raise UsageError(f"{path} holds no budget", expected="at least one [[budget]] table")
    return tuple(_budget(table, f"{path} [[budget]] {number}") for number, table in enumerate(tables, 1))


def _budget(table: dict[str, object], source: str) -> DeviceBudget:
    defaults = {each.name: each.default for each in dataclasses.fields(DeviceBudget)}
    budget = _canonical(codec.decode(DeviceBudget, {**defaults, **table}, source, UsageError))
    if all(getattr(budget, name) is None for name in LIMITS):
        raise UsageError(f"{source} limits nothing", expected=", ".join(LIMITS))
    return budget


def _canonical(budget: DeviceBudget) -> DeviceBudget:
    """``budget`` with the canonical names that results use instead of aliases; patterns stay as they are."""
    target = budget.target if _PATTERN & set(budget.target) else canonical(budget.target)
    precision = budget.precision if _PATTERN & set(budget.precision) else parse_precision(budget.precision)
    return dataclasses.replace(budget, target=target, precision=precision)


def budgets_for(budgets: Sequence[DeviceBudget], measured: Measured, machine: Machine) -> list[DeviceBudget]:
    """The budgets that apply to ``measured``; all of them must hold, so the strictest decides."""
    return [budget for budget in budgets if budget.is_for(measured, machine)]
