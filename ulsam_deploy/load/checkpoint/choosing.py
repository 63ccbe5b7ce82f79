"""Finds the weights among what a trainer stored: by what they are, not by a list of names.

Weights are a dictionary of names and tensors, at any depth. Where a file holds several, the usual training weights are
taken before averaged ones (EMA), and networks of different parts (a generator and its discriminator) are asked about.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ulsam_deploy.device.errors import ExportError, UsageError
from ulsam_deploy.device.printing import shown

if TYPE_CHECKING:
    from torch import Tensor, nn

#: The keys under which training code stores the weights among other data, most specific first.
WRAPPERS = ("state_dict", "model_state_dict", "model", "net", "params", "ema")
EXPECTED = "a state_dict written by torch.save, or a .safetensors file"
MAX_NAME = 500
_DEPTH, _MOST = 5, 10_000
_AVERAGED = re.compile(r"(^|[._])(ema|averaged?|avg|swa)([._]|$)|_ema|ema_", re.IGNORECASE)


@dataclass(frozen=True)
class ChosenWeights:
    """The weights, what lay beside them, sentences about the choice, and the network itself if the file holds it."""

    weights: dict[str, Tensor]
    beside: dict[str, Any]
    notes: tuple[str, ...]
    module: nn.Module | None = None


@dataclass(frozen=True)
class _Found:
    path: tuple[str, ...]
    weights: dict[str, Tensor]
    module: nn.Module | None = None

    @property
    def name(self) -> str:
        return ".".join(self.path)

    @property
    def averaged(self) -> bool:
        return bool(_AVERAGED.search(self.name))


def choose(found: object, name: str, wanted: str = "") -> ChosenWeights:
    """The weights in ``found``, the content of the file ``name``.

    Args:
        found: What the file holds.
        name: The file's name, for messages.
        wanted: The key under which they are, with dots between the levels; empty: find them.

    Raises:
        ExportError: There are no weights.
        UsageError: There are several networks, or none under ``wanted``.
    """
    import torch

    if not isinstance(found, dict | torch.nn.Module):
        raise ExportError(f"'{name}' holds {describe(found)}, not a state_dict", expected=EXPECTED)
    budget = [_MOST]
    candidates = list(_candidates(found, (), budget))
    if not candidates:
        raise ExportError(f"'{name}' holds no weights: {describe(found)}", expected=EXPECTED)
    taken = _taken(candidates, name, wanted)
    others = [other.name for other in candidates if other is not taken and other.path]
    notes: tuple[str, ...] = ()
    if others:
        said = f"weights were taken from '{shown(taken.name)}', not from '{shown(others[0])}'"
        notes = (f"{said}; --weights {shown(others[0])} takes those",)
    return ChosenWeights(taken.weights, _beside(found, taken, candidates), notes, taken.module)


def _taken(candidates: Sequence[_Found], name: str, wanted: str) -> _Found:
    if wanted:
        for one in candidates:
            if one.name == wanted:
                return one
        raise UsageError(
            f"'{name}' has no weights under '{wanted}'",
            expected=f"--weights with one of {', '.join(shown(one.name) or 'nothing' for one in candidates[:8])}",
        )
    plain = [one for one in candidates if not one.averaged] or list(candidates)
    plain.sort(key=lambda one: [_rank(key) for key in one.path])
    first, *rest = plain
    if rest and first.path and _rank(first.path[-1]) == _rank(rest[0].path[-1]) == len(WRAPPERS):
        listed = ", ".join(f"'{shown(one.name)}' ({len(one.weights)} tensors)" for one in candidates[:8])
        raise UsageError(
            f"'{name}' holds the weights of several networks: {listed}",
            expected="one of them",
            todo=f"say which: --weights {shown(first.name)}",
        )
    return first


def _rank(key: str) -> int:
    return WRAPPERS.index(key) if key in WRAPPERS else len(WRAPPERS)


def _candidates(found: object, path: tuple[str, ...], budget: list[int]) -> Iterator[_Found]:
    """Every innermost dictionary of names and tensors in ``found``."""
    import torch

    module = found if isinstance(found, torch.nn.Module) else None
    if module is not None:
        found = module.state_dict()
    if not isinstance(found, dict) or len(path) > _DEPTH:
        return
    # dict.items: an OrderedDict from a pickle may have an attribute called "items".
    entries: list[tuple[Any, Any]] = list(dict.items(found))
    budget[0] -= len(entries)
    if budget[0] < 0 and path:
        return
    if any(not isinstance(key, str) or not key.isprintable() or len(key) > MAX_NAME for key, _ in entries):
        # A name with control characters, or one that cannot be encoded, is not a parameter's name.
        return
    weights = {key: value for key, value in entries if isinstance(value, torch.Tensor)}
    inner = [
        one
        for key, value in entries
        if not _OF_TRAINING.search(key)
        for one in _candidates(value, (*path, key), budget)
    ]
    yield from inner
    # A few tensors among other data of training, such as class weights, are no network.
    if weights and not inner and (not path or 2 * len(weights) >= len(entries)):
        yield _Found(path, weights, module)


#: What training keeps for itself: moments of the optimizer and the like have names and tensors as well.
_OF_TRAINING = re.compile(r"optim|sched|scaler|callback|loop|message_hub|history|metric", re.IGNORECASE)


def _beside(found: object, taken: _Found, candidates: Sequence[_Found]) -> dict[str, Any]:
    """What lies beside the weights on each level on the way to them, without other weights."""
    import torch

    beside: dict[str, Any] = {}
    heads = {one.path[:1] for one in candidates}
    for depth in range(len(taken.path) + 1):
        if not isinstance(found, dict):
            break
        inner = taken.path[depth : depth + 1]
        beside |= {
            key: value
            for key, value in dict.items(found)
            if (key,) != inner and not isinstance(value, torch.Tensor) and not (depth == 0 and (key,) in heads)
        }
        found = found[inner[0]] if inner else None
    return beside


def describe(found: object) -> str:
    """What ``found`` is, in a few words."""
    if isinstance(found, dict):
        keys = [ascii(key)[:60] for key in list(dict.keys(found))[:5] if isinstance(key, str | int)]
        return f"a dictionary with {', '.join(keys) or 'no keys that are names'}"
    return f"a {type(found).__name__}"
