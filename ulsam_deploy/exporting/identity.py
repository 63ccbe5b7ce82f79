"""Which softmaxes of a file are the attention of which block: told by what they give, not by where they stand.

Any network may have other softmaxes (self-attention, selected kernels, pooling of a context), and a converter may put
parallel branches in another order. numpy only.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from ulsam_deploy.device.arrays import Array, ArrayMap
from ulsam_deploy.device.parity import Added

__all__ = ["shares"]

#: A softmax within this relative distance of a block's maps may be that block's.
_MAY_BE = 0.5
#: Of those nearly as near as the nearest one, the first in execution order is taken: equal maps have no other mark.
_NEARLY = 2.0


def shares(names: Sequence[str], seen: Sequence[ArrayMap], watched: Sequence[Sequence[Added]]) -> list[tuple[int, ...]]:
    """The softmaxes of each block: one, or one for each subspace.

    Args:
        names: What the file's softmaxes give, by the names of ``seen``, in execution order.
        seen: The file's inner values on each watched batch; empty if its engine shows none.
        watched: For each of these batches, what the reference's blocks compute.

    Returns:
        For each block, numbers of ``names``; empty if that is not certain for every block.
    """
    blocks = [[batch[number] for batch in watched] for number in range(len(watched[0]))] if watched else []
    given = [[batch.get(name) for batch in seen] for name in names] if len(seen) == len(watched) else []
    taken: set[int] = set()
    found: list[tuple[int, ...] | None] = []
    for block in blocks:
        share = _nearest([one.maps for one in block], given, taken)
        if share is None:
            share = _of_subspaces(block, given, taken)
        taken.update(share or ())
        found.append(share)
    left = {number: given[number] if given else () for number in range(len(names)) if number not in taken}
    return _in_order(found, blocks, left)


def _in_order(
    found: Sequence[tuple[int, ...] | None],
    blocks: Sequence[Sequence[Added]],
    left: Mapping[int, Sequence[Array | None]],
) -> list[tuple[int, ...]]:
    """``found``, with the softmaxes that are ``left`` over for blocks without one, if just as many are left.

    Attention that is wrong resembles no block's; it is still where the block's would be, and as large.
    """
    missing = [number for number, share in enumerate(found) if share is None]
    if not missing:
        return [share for share in found if share is not None]
    for parts in ([1] * len(missing), [blocks[number][0].maps.shape[1] for number in missing]):
        if sum(parts) == len(left):
            rest = iter(left)
            filled = {number: tuple(next(rest) for _ in range(count)) for number, count in zip(missing, parts)}
            if all(_fit(blocks[number], [left[one] for one in share]) for number, share in filled.items()):
                return [filled[number] if share is None else share for number, share in enumerate(found)]
    return []


def _fit(block: Sequence[Added], values: Sequence[Sequence[Array | None]]) -> bool:
    """Whether the softmaxes that gave ``values``, one or one for each subspace, have the size of the block's maps."""
    return all(
        value is not None and value.size * len(values) == one.maps.size
        for given in values
        for value, one in zip(given, block)
    )


def _of_subspaces(
    block: Sequence[Added], given: Sequence[Sequence[Array | None]], taken: set[int]
) -> tuple[int, ...] | None:
    """The softmax of each subspace; ``None`` if one of them is not found."""
    share: tuple[int, ...] = ()
    for subspace in range(block[0].maps.shape[1]):
        maps = [one.maps[:, subspace : subspace + 1] for one in block]
        one = _nearest(maps, given, taken | set(share))
        if one is None:
            return None
        share += one
    return share


def _nearest(maps: Sequence[Array], given: Sequence[Sequence[Array | None]], taken: set[int]) -> tuple[int, ...] | None:
    """The softmax that gives ``maps``, (N, g, H, W) on each batch; ``None`` if none of those that are free does."""
    far = {
        number: distance
        for number, values in enumerate(given)
        if number not in taken and (distance := _distance(maps, values)) < _MAY_BE
    }
    if not far:
        return None
    least = min(far.values())
    return (next(number for number, distance in far.items() if distance <= _NEARLY * least),)


def _distance(maps: Sequence[Array], values: Sequence[Array | None]) -> float:
    """The distance of ``values`` from ``maps``, relative to their size; infinite for other shapes."""
    error = size = 0.0
    for wanted, value in zip(maps, values):
        if value is None or value.size != wanted.size:
            return np.inf
        error += min(float(np.square(form - wanted).sum()) for form in _forms(value, wanted.shape))
        size += float(np.square(wanted).sum())
    return float(np.sqrt(error / size)) if size else np.inf


def _forms(value: Array, shape: tuple[int, ...]) -> Iterator[Array]:
    """``value`` as maps of ``shape`` (N, g, H, W), with the subspaces second or last."""
    batch, subspaces, *rest = shape
    plain = np.asarray(value, np.float64)
    yield plain.reshape(shape)
    yield np.moveaxis(plain.reshape(batch, *rest, subspaces), -1, 1)
