"""What an artifact may cost and lose: the budget that ``--precision auto`` keeps to, read from TOML or from words.

Standard library only.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from ulsam_deploy.device import toml
from ulsam_deploy.device.errors import UsageError
from ulsam_deploy.device.spelling import unknown
from ulsam_deploy.device.thresholds import KEPT, TOLERANCE

__all__ = ["DROP", "Budget", "from_mapping", "parse_limit", "read_budget"]

#: Points of top-1 that may be lost where nobody says otherwise and there is labelled data.
DROP = 0.5
_UNITS = {"B": 1, "kB": 1000, "MB": 1000**2, "KiB": 1024, "MiB": 1024**2}
_SIZE = re.compile(r"(\d+(?:\.\d+)?) ?(%|B|kB|MB|KiB|MiB)")


@dataclass(frozen=True)
class Budget:
    """Every limit holds at once; on top of the artifact's own check, which must pass.

    ``drop``: points of top-1 less than PyTorch on ``--data``; ``None``: 0.5 where there is data. ``error``: the largest
    of any output, in noise floors of the artifact's precision. ``retention``: the least of each block that is kept in
    fp32. ``size``: the most that its files may take, in bytes with a unit, or in percent of fp32's; empty: any.
    """

    drop: float | None = None
    error: float = TOLERANCE
    retention: float = KEPT
    size: str = ""

    def check(self) -> Budget:
        """Itself; raises :class:`UsageError` for a limit that makes no sense."""
        if self.drop is not None and not 0 <= self.drop <= 100:
            raise UsageError(f"the budget's drop is {self.drop:g}", expected="0 to 100 points of top-1")
        if not 0 < self.error <= TOLERANCE:
            raise UsageError(
                f"the budget's error is {self.error:g} noise floors", expected=f"above 0, and at most {TOLERANCE:g}"
            )
        if not 0 <= self.retention <= 1:
            raise UsageError(f"the budget's retention is {self.retention:g}", expected="0 to 1")
        if self.size and not _SIZE.fullmatch(self.size):
            raise UsageError(f"the budget's size is '{self.size}'", expected="such as '600 kB', '1.5 MB' or '40 %'")
        return self

    def bytes(self, fp32: int) -> float | None:
        """The most bytes that an artifact may have, where fp32 has so many; ``None``: any."""
        if not self.size:
            return None
        match = _SIZE.fullmatch(self.size)
        assert match
        number, unit = float(match[1]), match[2]
        return number / 100 * fp32 if unit == "%" else number * _UNITS[unit]

    def sentence(self, data: bool) -> str:
        """The limits in words; ``data``: whether there is labelled data."""
        said = [f"at least {self.retention:g} of the attention of every block that is kept in fp32"]
        said += [f"an error of at most {self.error:g} noise floors"]
        if data:
            said.append(f"at most {self.drop if self.drop is not None else DROP:g} points of top-1 less than PyTorch")
        if self.size:
            said.append(f"at most {self.size}" + (" of fp32's size" if self.size.endswith("%") else ""))
        return ", ".join(said)


def read_budget(path: Path | None, words: Sequence[str] = ()) -> Budget:
    """The budget in the table ``[budget]`` of the TOML file ``path``; ``words`` such as ``drop=0.3`` win over it.

    Raises :class:`UsageError` for unknown names, other types and impossible limits.
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
    """``drop=0.3`` as ``("drop", 0.3)``; raises :class:`UsageError`."""
    name, equals, text = word.partition("=")
    if not equals:
        raise UsageError(f"'{word}' is no limit", expected="NAME=VALUE, such as retention=0.9")
    if name == "size":
        return name, text
    try:
        return name, float(text)
    except ValueError as error:
        raise UsageError(f"'{word}' is no limit", expected=f"{name}= and a number") from error


def from_mapping(given: Mapping[str, Any]) -> Budget:
    """The budget with the limits ``given`` by name; raises :class:`UsageError` as :func:`read_budget` does."""
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
