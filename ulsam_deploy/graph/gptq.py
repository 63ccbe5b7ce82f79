"""Rounds the weights of one product to an int8 grid so that its results, rather than its weights, change least.

GPTQ (Frantar et al., ICLR 2023, arXiv 2210.17323): one column of the weights after the other is rounded, and what that
changes on the calibration inputs is made good by the columns that are still to come.
"""

from __future__ import annotations

import torch
from torch import Tensor

#: The share of the mean variance that is added to each input's own: keeps what few samples show from being overdone.
DAMPING = 0.01


def steps(weight: Tensor, levels: int) -> Tensor:
    """The step of each output channel's grid, as engines choose it: the largest weight is ``levels`` steps; ``(N,)``.

    A channel of zeros has the step 1.
    """
    largest = weight.abs().flatten(1).amax(1)
    return torch.where(largest > 0, largest / levels, torch.ones_like(largest))


def nearest(weight: Tensor, levels: int) -> Tensor:
    """``weight`` rounded to the nearest point of the grid of each output channel (first axis)."""
    step = steps(weight, levels).reshape(-1, *(1,) * (weight.ndim - 1))
    return (weight / step).round().clamp(-levels, levels) * step


def chosen(weight: Tensor, covariance: Tensor, levels: int) -> Tensor:
    """``weight`` on the same grid as :func:`nearest`, chosen for inputs with ``covariance``.

    The largest weight of each channel stays as it is, so that an engine that measures the range again finds this grid.

    Args:
        weight: ``(G, R, K)``: for each of G groups, R output channels with K weights; float64.
        covariance: ``(G, K, K)``: of the inputs of each group; float64.
        levels: The steps between zero and the largest weight.

    Returns:
        The rounded weights, ``(G, R, K)``.
    """
    groups, rows, count = weight.shape
    step = steps(weight.reshape(groups * rows, count), levels).reshape(groups, rows, 1)
    scaled = weight / step
    largest = scaled.abs() == scaled.abs().amax(2, keepdim=True)
    diagonal = covariance.diagonal(dim1=1, dim2=2)
    order = diagonal.argsort(
        dim=1, descending=True, stable=True
    )  # what counts most is rounded while all can make it good
    each = torch.arange(groups).unsqueeze(1)
    damped = covariance + torch.diag_embed((DAMPING * diagonal.mean(1, keepdim=True) + 1e-12).expand_as(diagonal))
    sorted_ = damped[each.unsqueeze(2), order.unsqueeze(2), order.unsqueeze(1)]
    factor = torch.linalg.cholesky(torch.cholesky_inverse(torch.linalg.cholesky(sorted_)), upper=True)
    columns = order.unsqueeze(1).expand_as(scaled)
    left, fixed = scaled.gather(2, columns), largest.gather(2, columns)
    ends = fixed * left.sign() * levels
    found = torch.empty_like(left)
    for column in range(count):
        value = left[:, :, column]
        found[:, :, column] = torch.where(fixed[:, :, column], ends[:, :, column], value.round().clamp(-levels, levels))
        error = (value - found[:, :, column]) / factor[:, column, column].unsqueeze(1)
        left[:, :, column:] -= error.unsqueeze(2) * factor[:, column, column:].unsqueeze(1)
    result = torch.empty_like(found).scatter_(2, columns, found)
    return result * step
