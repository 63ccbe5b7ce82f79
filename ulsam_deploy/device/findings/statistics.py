"""Times, ratios and shares, with their bounds. Standard library only; device-safe."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

_AMOUNT: Mapping[str, Any] = {"minimum": 0}
_COUNT: Mapping[str, Any] = {"minimum": 1}
_SHARE: Mapping[str, Any] = {"minimum": 0, "maximum": 1}


@dataclass(frozen=True)
class Summary:
    """Latency in milliseconds over ``count`` samples; a percentile with too few samples is ``None`` (n/a).

    ``p50`` ... ``p99`` are the samples' own percentiles; ``p50_bound`` ... ``p99_bound`` are upper bounds of the true
    percentiles with 99 % confidence (:func:`~ulsam_deploy.device.bench.statistics.early_stopping`), the figures to
    promise.
    """

    count: int = field(metadata=_COUNT)
    mean: float = field(metadata=_AMOUNT)
    min: float = field(metadata=_AMOUNT)
    p50: float | None = field(metadata=_AMOUNT)
    p90: float | None = field(metadata=_AMOUNT)
    p95: float | None = field(metadata=_AMOUNT)
    p99: float | None = field(metadata=_AMOUNT)
    p50_bound: float | None = field(metadata=_AMOUNT)
    p90_bound: float | None = field(metadata=_AMOUNT)
    p95_bound: float | None = field(metadata=_AMOUNT)
    p99_bound: float | None = field(metadata=_AMOUNT)
    unit: str = "ms"

    def percentiles(self) -> dict[str, float]:
        """The available percentiles of the samples, by name: ``p50`` to ``p99``."""
        found = {"p50": self.p50, "p90": self.p90, "p95": self.p95, "p99": self.p99}
        return {name: value for name, value in found.items() if value is not None}


@dataclass(frozen=True)
class Latency(Summary):
    """Time of one call, for ``batch`` inputs, measured while an artifact was checked.

    ``quantiles``: the samples at equal steps from the fastest to the slowest, in milliseconds.
    """

    batch: int = field(default=1, metadata=_COUNT)
    quantiles: tuple[float, ...] = field(default=(), metadata={"minimum": 0, "longest": 1000})


@dataclass(frozen=True)
class Interval:
    """An estimate and its one-sided bounds, each valid with the requested confidence.

    Both bounds are ``None`` if there are too few blocks. ``blocks`` of ``length`` rounds each, of the side with fewer.
    """

    estimate: float
    low: float | None
    high: float | None
    blocks: int
    length: int


@dataclass(frozen=True)
class Paired:
    """One classifier compared with another on the same ``count`` samples.

    ``lost``: samples that only the other classifies correctly; ``won``: samples that only this one does. ``drop`` is
    ``(lost - won) / count``, a fraction, with its interval ``low`` to ``high``; ``p``: how likely so uneven a split is
    if both are equally good (:func:`~ulsam_deploy.device.accuracy.statistics.mcnemar`).
    """

    count: int = field(metadata=_AMOUNT)
    lost: int = field(metadata=_AMOUNT)
    won: int = field(metadata=_AMOUNT)
    drop: float
    low: float
    high: float
    p: float = field(metadata=_SHARE)
