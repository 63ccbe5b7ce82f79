"""The budget: limits on what an artifact may lose, and for ``--precision auto`` cost, from TOML or options.

Standard library only.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from ulsam_deploy.device import toml
from ulsam_deploy.device.errors import UsageError
from ulsam_deploy.device.findings import AgreementBudget
from ulsam_deploy.device.spelling import unknown
from ulsam_deploy.device.thresholds import KEPT, TOLERANCE

__all__ = ["DROP", "Budget", "from_mapping", "parse_limit", "read_budget"]

#: The default limit on the drop in top-1, in points, if there is labelled data.
DROP = 0.5
_UNITS = {"B": 1, "kB": 1000, "MB": 1000**2, "KiB": 1024, "MiB": 1024**2}
_SIZE = re.compile(r"(\d+(?:\.\d+)?) ?(%|B|kB|MB|KiB|MiB)")


@dataclass(frozen=True)
class Budget:
    """The limits of an export: of every artifact its agreement with PyTorch, of a search all of them.

    Attributes:
        drop: The largest drop in top-1 against PyTorch on ``--data``, in points; ``None``: 0.5 if there is data.
        error: The largest error of any output, in noise floors of the artifact's precision.
        retention: The smallest retention of each block whose attention is kept in fp32.
        size: The largest size of its files, in bytes with a unit or in percent of the fp32 artifact's; empty: any.
        agreement: The least share of real inputs on which its top-1 is PyTorch's, where PyTorch is sure.
        deviation: The largest error of an output on real inputs, relative to its variation between them.
    """

    drop: float | None = None
    error: float = TOLERANCE
    retention: float = KEPT
    size: str = ""
    agreement: float = AgreementBudget.agreement
    deviation: float = AgreementBudget.deviation

    @property
    def agreed(self) -> AgreementBudget:
        """The limits on agreement with PyTorch."""
        return AgreementBudget(self.agreement, self.deviation)

    @property
    def is_for_search(self) -> bool:
        """Whether it limits more than agreement, which only a search can keep to."""
        return replace(self, agreement=Budget.agreement, deviation=Budget.deviation) != Budget()

    def check(self) -> Budget:
        """Return the budget itself; raises :class:`UsageError` for an impossible limit."""
        if self.drop is not None and not 0 <= self.drop <= 100:
            raise UsageError(f"the budget's drop is {self.drop:g}", expected="0 to 100 points of top-1")
        if not 0 < self.error <= TOLERANCE:
            raise UsageError(
                f"the budget's error is {self.error:g} noise floors", expected=f"above 0, and at most {TOLERANCE:g}"
            )
        if not 0 <= self.retention <= 1:
            raise UsageError(f"the budget's retention is {self.retention:g}", expected="0 to 1")
        if not 0 <= self.agreement <= 1:
            raise UsageError(f"the budget's agreement is {self.agreement:g}", expected="a share from 0 to 1")
        if not 0 < self.deviation < math.inf:
            raise UsageError(f"the budget's deviation is {self.deviation:g}", expected="a share above 0, such as 0.25")
        if self.size and not _SIZE.fullmatch(self.size):
            raise UsageError(f"the budget's size is '{self.size}'", expected="such as '600 kB', '1.5 MB' or '40 %'")
        return self

    def bytes(self, fp32: int) -> float | None:
        """The largest size in bytes if the fp32 artifact has ``fp32`` bytes; ``None``: any."""
        if not self.size:
            return None
        match = _SIZE.fullmatch(self.size)
        assert match
        number, unit = float(match[1]), match[2]
        return number / 100 * fp32 if unit == "%" else number * _UNITS[unit]

    def sentence(self, data: bool) -> str:
        """The limits as text; ``data``: whether there is labelled data."""
        said = [f"at least {self.retention:g} of the attention of every block that is kept in fp32"]
        said += [f"an error of at most {self.error:g} noise floors"]
        if data:
            said.append(f"at most {self.drop if self.drop is not None else DROP:g} points of top-1 less than PyTorch")
        if self.size:
            said.append(f"at most {self.size}" + (" of fp32's size" if self.size.endswith("%") else ""))
        return ", ".join(said)


def read_budget(path: Path | None, words: Sequence[str] = ()) -> Budget:
    """Read the table ``[budget]`` of the TOML file ``path``; ``words`` such as ``drop=0.3`` override it.

    Raises :class:`UsageError` for unknown names, wrong types and impossible limits.
    """
    given = _table(path) if path is not None else {}
    return from_mapping({**given, **dict(parse_limit(word) for word in words)})


def _table(path: Path) -> dict[str, Any]:
    content = toml.read(path, f"the budget '{path}'", expected="TOML with [budget]")
    if isinstance(content.get("budget"), list):
        raise UsageError(
            f"'{path}' holds [[budget]] tables, which are what 'compare' takes",
            expected="one table [budget], in one bracket, with any of "
            + ", ".join(field.name for field in fields(Budget)),
        )
    if set(content) != {"budget"} or not isinstance(content["budget"], dict):
        raise UsageError(f"'{path}' holds {', '.join(sorted(content)) or 'nothing'}", expected="the table [budget]")
    return dict(content["budget"])


def parse_limit(word: str) -> tuple[str, Any]:
    """Parse ``drop=0.3`` as ``("drop", 0.3)``; raises :class:`UsageError`."""
    name, equals, text = word.partition("=")
    if not equals:
        raise UsageError(f"'{word}' is not a limit", expected="NAME=VALUE, such as retention=0.9")
    if name == "size":
        return name, text
    try:
        return name, float(text)
    except ValueError as error:
        raise UsageError(f"'{word}' is not a limit", expected=f"{name}= and a number") from error


def from_mapping(given: Mapping[str, Any]) -> Budget:
    """Make a budget from limits by name; raises :class:`UsageError` as :func:`read_budget` does."""
    known = {field.name for field in fields(Budget)}
    for name, value in given.items():
        if name not in known:
            raise unknown(f"the budget names '{name}'", name, sorted(known))
        right = isinstance(value, str) if name == "size" else isinstance(value, (int, float)) and value == value
        if isinstance(value, bool) or not right:
            raise UsageError(
                f"the budget's {name} is {value!r}", expected="text such as '40 %'" if name == "size" else "a number"
            )
    return Budget(**given).check()
