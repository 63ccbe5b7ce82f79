"""Accuracy in shards: counts of each that can be added up in any order. numpy only, and pure."""

from __future__ import annotations

from dataclasses import dataclass

from ulsam_deploy.device.accuracy import SEVERAL, ranks, wilson
from ulsam_deploy.device.arrays import Array


@dataclass(frozen=True)
class Tally:
    """Of ``samples`` so many whose label was the first, and among the first five, of the outputs."""

    samples: int = 0
    top1: int = 0
    top5: int = 0

    def __add__(self, other: Tally) -> Tally:
        return Tally(self.samples + other.samples, self.top1 + other.top1, self.top5 + other.top5)

    def interval(self) -> tuple[float, float]:
        """The interval of top-1 accuracy, as ``verify --data`` gives it; (0, 1) without samples."""
        return wilson(self.top1, self.samples) if self.samples else (0.0, 1.0)


def count(scores: Array, labels: Array) -> Tally:
    """Of ``scores`` (B, K) against ``labels`` (B,), whole numbers below K, by the rule of ``verify --data``."""
    before = ranks(scores, labels)
    return Tally(len(labels), int((before < 1).sum()), int((before < SEVERAL).sum()))
