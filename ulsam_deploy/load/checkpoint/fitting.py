"""Finds, by an exact fit, which leading part of the keys does not belong to a network.

Trainers put the network into something: ``model.`` (Lightning), ``network.``, ``generator.``. A prefix is taken off, or
put in front, only if the keys are then exactly those of the network.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from ulsam_deploy.load.checkpoint.reading import Checkpoint

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["fitted"]

#: What profilers leave in a state_dict (thop).
_COUNTS = ("total_ops", "total_params")
_DEEPEST = 3


def fitted(checkpoint: Checkpoint, fits: Callable[[Mapping[str, Tensor]], bool], *, partly: bool = False) -> Checkpoint:
    """``checkpoint`` with the keys that ``fits`` accepts, and a note about what was done; itself if there are none.

    Where ``partly`` is set, weights without the prefix may be left out: the network is then known from elsewhere.
    """
    for tensors, note in _readings(checkpoint.tensors, partly):
        if fits(tensors):
            return replace(checkpoint, tensors=tensors, notes=(*checkpoint.notes, note)) if note else checkpoint
    return checkpoint


def _readings(tensors: Mapping[str, Tensor], partly: bool) -> Iterator[tuple[Mapping[str, Tensor], str]]:
    """The tensors under other names, each with what was done; as they are first."""
    yield tensors, ""
    counts = [key for key in tensors if key.rpartition(".")[2] in _COUNTS]
    clean = {key: tensor for key, tensor in tensors.items() if key not in counts}
    said = f"{len(counts)} counts of a profiler ({', '.join(_COUNTS)}) were left out" if counts else ""
    if counts:
        yield clean, said
    for prefix in _prefixes(clean):
        own = {key[len(prefix) :]: tensor for key, tensor in clean.items() if key.startswith(prefix)}
        rest = len(clean) - len(own)
        if rest and not partly:
            break  # the prefixes that all keys have come first
        beside = f", and {rest} others were left out" if rest else ""
        yield (
            own,
            "; ".join(part for part in (said, f"the leading '{prefix}' was taken off {len(own)} keys{beside}") if part),
        )
    for prefix in ("model.", "module.", "net."):
        yield {prefix + key: tensor for key, tensor in clean.items()}, f"'{prefix}' was put in front of every key"


def _prefixes(tensors: Mapping[str, Tensor]) -> list[str]:
    """The leading parts of the keys, those that most keys have first."""
    counts: dict[str, int] = {}
    for key in tensors:
        parts = key.split(".")
        for depth in range(1, min(len(parts), _DEEPEST + 1)):
            prefix = ".".join(parts[:depth]) + "."
            counts[prefix] = counts.get(prefix, 0) + 1
    return sorted(counts, key=lambda prefix: (-counts[prefix], prefix))[:64]
