"""The ONNX operators that choose elements by position or value, implemented in torch."""

from __future__ import annotations

import itertools
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from ulsam_deploy.device.arrays import Array
from ulsam_deploy.load.onnx.errors import NotReadError
from ulsam_deploy.load.onnx.known import ints
from ulsam_deploy.load.onnx.operators.values import Attributes, Meaning, as_operand, known, tensor, text


def _extreme_place(a: Attributes, x: Tensor) -> Tensor:
    find = torch.argmax if a["op"] == "ArgMax" else torch.argmin
    axis, keep = a.get("axis", 0), bool(a.get("keepdims", 1))
    if not a.get("select_last_index", 0):
        return find(x, axis, keep)
    return x.shape[axis] - 1 - find(x.flip(axis), axis, keep)


def _top_k(a: Attributes, x: Tensor, k: Array) -> tuple[Tensor, Tensor]:
    axis, largest = a.get("axis", -1), bool(a.get("largest", 1))
    values, places = torch.sort(x, dim=axis, descending=largest, stable=True)  # of equal ones, the first comes first
    count = ints(known(k, "k"))[0]
    return values.narrow(axis, 0, count), places.narrow(axis, 0, count)


def _where(_: Attributes, condition: Tensor | Array, yes: Tensor | Array, no: Tensor | Array) -> Tensor:
    return torch.where(tensor(condition, torch.bool), as_operand(yes, no), as_operand(no, yes))


def _positions(indices: Tensor | Array, size: int) -> Tensor:
    """Indices from the start of an axis of ``size``."""
    if isinstance(indices, Tensor):
        return torch.where(indices < 0, indices + size, indices).to(torch.int64)
    counted = [int(i) + size if i < 0 else int(i) for i in indices.reshape(-1)]
    return torch.tensor(counted, dtype=torch.int64).reshape(indices.shape)


def _gather(a: Attributes, x: Tensor | Array, indices: Tensor | Array) -> Tensor:
    x = tensor(x)
    axis = a.get("axis", 0) % x.ndim
    size = x.shape[axis]
    if isinstance(indices, Tensor):
        picked = x.index_select(axis, _positions(indices, size).reshape(-1))
        return picked.reshape([*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :]])
    chosen = [index % size if isinstance(index, int) and index < 0 else index for index in ints(indices)]
    if indices.ndim == 0:
        return x.select(axis, chosen[0])
    if indices.ndim == 1 and chosen and chosen == list(range(chosen[0], chosen[0] + len(chosen))):
        return x.narrow(axis, chosen[0], len(chosen))
    picked = x.index_select(axis, torch.tensor(chosen, dtype=torch.int64))
    return picked.reshape([*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :]])


def _gather_elements(a: Attributes, x: Tensor, indices: Tensor | Array) -> Tensor:
    axis = a.get("axis", 0) % x.ndim
    return torch.gather(x, axis, _positions(indices, x.shape[axis]))


def _gather_nd(a: Attributes, x: Tensor, indices: Array) -> Tensor:
    batches = a.get("batch_dims", 0)
    where = known(indices, "indices")
    flat, sizes = _flat(where, x.shape, batches)
    return x.reshape(-1, *x.shape[batches + where.shape[-1] :]).index_select(0, flat).reshape(sizes)


def _flat(where: Array, shape: torch.Size, batches: int) -> tuple[Tensor, list[int]]:
    """The rows of ``x``, flattened over the indexed axes, that ``where`` names; and the shape of the result."""
    depth = where.shape[-1]
    lengths, rows = shape[batches : batches + depth], where.reshape(-1, depth)
    each = len(rows) // int(np.prod(where.shape[:batches], dtype=np.int64))
    flat = []
    for number, row in enumerate(rows):
        place = number // each
        for index, length in zip(row, lengths):
            place = place * length + (int(index) + length if index < 0 else int(index))
        flat.append(place)
    return torch.tensor(flat, dtype=torch.int64), [*where.shape[:-1], *shape[batches + depth :]]


_REDUCTIONS = {"add": "sum", "mul": "prod", "max": "amax", "min": "amin"}


def _scatter_elements(a: Attributes, x: Tensor, indices: Array, updates: Tensor | Array) -> Tensor:
    axis, how = a.get("axis", 0) % x.ndim, text(a, "reduction", "none")
    index, values = _positions(indices, x.shape[axis]), tensor(updates, x.dtype)
    values = values.expand(index.shape)
    if how == "none":
        return x.scatter(axis, index, values)
    return x.scatter_reduce(axis, index, values, _REDUCTIONS[how])


def _scatter_nd(a: Attributes, x: Tensor, indices: Array, updates: Tensor | Array) -> Tensor:
    where, how = known(indices, "indices"), text(a, "reduction", "none")
    flat, _ = _flat(where, x.shape, 0)
    rows = x.reshape(-1, *x.shape[where.shape[-1] :])
    values = tensor(updates, x.dtype).reshape(len(flat), *rows.shape[1:])
    index = flat.reshape(-1, *[1] * (rows.ndim - 1)).expand(values.shape)
    done = rows.scatter(0, index, values) if how == "none" else rows.scatter_reduce(0, index, values, _REDUCTIONS[how])
    return done.reshape(x.shape)


def _one_hot(a: Attributes, indices: Tensor | Array, depth: Array, values: Tensor | Array) -> Tensor:
    count = int(known(depth, "depth").item())
    rows = _positions(indices, count)
    axis = a.get("axis", -1) % (rows.ndim + 1)
    classes = torch.arange(count).reshape([-1 if i == axis else 1 for i in range(rows.ndim + 1)])
    off, on = tensor(values).reshape(2)
    return torch.where(rows.unsqueeze(axis) == classes, on, off)


def _compress(a: Attributes, x: Tensor, condition: Array) -> Tensor:
    kept = [place for place, keep in enumerate(known(condition, "condition").reshape(-1)) if keep]
    x, axis = (x, a["axis"]) if "axis" in a else (x.reshape(-1), 0)
    return x.index_select(axis, torch.tensor(kept, dtype=torch.int64))


def _reverse_sequence(a: Attributes, x: Tensor, lengths: Array) -> Tensor:
    along, over = a.get("time_axis", 0), a.get("batch_axis", 1)
    size = x.shape[along]
    rows = [[*reversed(range(n)), *range(n, size)] for n in ints(known(lengths, "lengths"))]
    index = torch.tensor(rows if over < along else list(itertools.zip_longest(*rows)), dtype=torch.int64)
    return x.gather(along, index.reshape(*index.shape, *[1] * (x.ndim - 2)).expand(x.shape))


def _triangle(a: Attributes, x: Tensor, k: Array | None = None) -> Tensor:
    offset = 0 if k is None else ints(known(k, "offset"))[0]
    return torch.triu(x, offset) if a.get("upper", 1) else torch.tril(x, offset)


def _unsettled(reason: str) -> Meaning:
    def run(*_: object) -> Tensor:
        raise NotReadError(reason)

    return run


OPERATORS: Mapping[str, Meaning] = {
    "ArgMax": _extreme_place,
    "ArgMin": _extreme_place,
    "TopK": _top_k,
    "Where": _where,
    "Gather": _gather,
    "GatherElements": _gather_elements,
    "GatherND": _gather_nd,
    "ScatterElements": _scatter_elements,
    "ScatterND": _scatter_nd,
    "OneHot": _one_hot,
    "Compress": _compress,
    "ReverseSequence": _reverse_sequence,
    "Trilu": _triangle,
    **dict.fromkeys(
        ("NonZero", "Unique", "NonMaxSuppression"),
        _unsettled("an operator whose result has as many elements as the input decides"),
    ),
}
