"""What local replay found: every module of the network by itself, inside the artifact. Standard library only."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

_AMOUNT: Mapping[str, Any] = {"minimum": 0}
_SHARE: Mapping[str, Any] = {"minimum": 0, "maximum": 1}

#: The share of multiply-adds that must have been replayed for the replay to speak for the whole network.
COVERED = 0.95


class ReplayDepth(str, enum.Enum):
    """On how many batches modules are replayed: none, the one with the worst probe, or all."""

    OFF = "off"
    FAST = "fast"
    FULL = "full"


@dataclass(frozen=True)
class ReplayedModule:
    """The worst operator of one module, or the quantizer behind it (``quantize``).

    ``ratio``: its error in roundings of the artifact's precision, ``None`` if it was not seen by itself. ``relative``:
    the same relative to the spread of the result. ``clipped``: the largest share of values outside the range of a
    quantizer. ``region``: how many operators were replayed together. ``wrong``: the error is beyond rounding.
    """

    module: str
    operator: str
    ratio: float | None = field(metadata=_AMOUNT)
    relative: float = field(metadata=_AMOUNT)
    clipped: float = field(metadata=_SHARE)
    region: int = field(metadata=_AMOUNT)
    wrong: bool


@dataclass(frozen=True)
class Replay:
    """The modules of one artifact, in the order of the network.

    ``allowed`` is in roundings. ``alone``, ``together`` and ``unseen``: the shares of multiply-adds in operators that
    were replayed alone, with others, or not at all. ``outputs``: whether every output of the network was reached.
    """

    batches: int = field(metadata=_AMOUNT)
    allowed: float = field(metadata=_AMOUNT)
    alone: float = field(metadata=_SHARE)
    together: float = field(metadata=_SHARE)
    unseen: float = field(metadata=_SHARE)
    outputs: bool
    modules: tuple[ReplayedModule, ...]

    @property
    def wrong(self) -> tuple[ReplayedModule, ...]:
        """The modules whose result is beyond rounding, in the order of the network."""
        return tuple(module for module in self.modules if module.wrong)

    @property
    def worst(self) -> ReplayedModule | None:
        """The module with the largest error in roundings; ``None`` if none was seen."""
        seen = [module for module in self.modules if module.ratio is not None]
        return max(seen, key=lambda module: module.ratio or 0.0, default=None)

    def saw(self, module: str) -> bool:
        """Whether an operator of ``module``, or of a module inside, was seen by itself."""
        inside = (one for one in self.modules if f"{one.module}.".startswith(f"{module}.") or module == "forward")
        return any(one.ratio is not None for one in inside)

    @property
    def proves(self) -> bool:
        """Whether every module was right, and they are the whole network."""
        return not self.wrong and self.outputs and self.alone + self.together >= COVERED
