"""Runs labelled data through any classifier, batch by batch, and measures its accuracy.

Standard library and numpy only; device-safe.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ulsam_deploy.device.accuracy.labelled import Labelled
from ulsam_deploy.device.accuracy.statistics import Paired, paired, wilson
from ulsam_deploy.device.arrays import Array
from ulsam_deploy.device.errors import UsageError
from ulsam_deploy.device.shapes import shape_text
from ulsam_deploy.device.types import TensorSpec

__all__ = ["Accuracy", "Hits", "class_count", "hits", "judged", "ranks"]


Run = Callable[[Mapping[str, Array]], Mapping[str, Array]]

#: Samples in one batch if the batch is dynamic.
TOGETHER = 16
#: The number of guesses for the second figure (top-5), as in ImageNet's tables.
SEVERAL = 5


@dataclass(frozen=True)
class Hits:
    """Which samples were right: bool ``(N,)``; ``top5`` is ``None`` if there are at most five classes."""

    top1: Array
    top5: Array | None


@dataclass(frozen=True)
class Share:
    """A fraction of right answers with its interval (:func:`~ulsam_deploy.device.accuracy.statistics.wilson`)."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Accuracy:
    """The result of :func:`judged`. ``partner``: what the artifact was compared with, empty for nothing."""

    count: int
    top1: Share
    top5: Share | None
    partner: str = ""
    paired: Paired | None = None


def class_count(outputs: Sequence[TensorSpec]) -> int:
    """The number of classes of a network; raises :class:`UsageError` if its output is not a row of scores."""
    first = outputs[0]
    if len(first.shape) != 2 or (first.shape[1] or 0) < 2:
        raise UsageError(
            f"the output '{first.name}' is {shape_text(first.shape)}: accuracy on labels means nothing there",
            expected="a row of class scores for each sample",
        )
    return int(first.shape[1] or 0)


def hits(run: Run, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec], data: Labelled) -> Hits:
    """Which samples of ``data`` are right, by the first of ``outputs``; ``run`` returns the outputs of one batch.

    A static batch is filled up with its last sample. :func:`ranks` decides what is right.
    """
    name, classes = outputs[0].name, class_count(outputs)
    static = inputs[0].shape[0]
    top1, top5 = [], []
    for feed, labels in data.batches(static or TOGETHER):
        missing = (static or len(labels)) - len(labels)
        whole = {key: np.concatenate([rows, rows[-1:].repeat(missing, 0)]) for key, rows in feed.items()}
        before = ranks(np.asarray(run(whole)[name])[: len(labels)], labels)
        top1.append(before < 1)
        top5.append(before < SEVERAL)
    return Hits(np.concatenate(top1), np.concatenate(top5) if classes > SEVERAL else None)


def ranks(scores: Array, labels: Array) -> Array:
    """How many classes are guessed before the right one; all accuracies are defined by this.

    Args:
        scores: The score of each class, (n, K).
        labels: The right class of each sample, (n,), whole numbers below K.

    Returns:
        The ranks, (n,), int64: 0 if the label is the first guess. Of equal scores the first counts, as in ``argmax``; a
        row that is not finite is wrong: K.
    """
    own = scores[np.arange(len(labels)), labels][:, None]
    earlier = np.arange(scores.shape[1]) < labels[:, None]
    before = ((scores > own) | ((scores == own) & earlier)).sum(1)
    return np.asarray(np.where(np.isfinite(scores).all(1), before, scores.shape[1]))


def judged(found: Hits, partner: str = "", other: Hits | None = None) -> Accuracy:
    """Fractions with their intervals; with ``other``, the hits of ``partner``, also the drop from those."""
    count = len(found.top1)
    pair = None
    if other is not None:
        lost, won = int((other.top1 & ~found.top1).sum()), int((found.top1 & ~other.top1).sum())
        pair = paired(lost, won, count)
    top5 = _share(found.top5) if found.top5 is not None else None
    return Accuracy(count, _share(found.top1), top5, partner if pair else "", pair)


def _share(right: Array) -> Share:
    low, high = wilson(int(right.sum()), len(right))
    return Share(float(right.mean()), low, high)
