"""Local replay of 8 bits: honest rounding passes, whatever is read before or behind it; a fault is named.

The artifact is torch itself, with quantizers at some places; it shows what is before and behind them, as engines do.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.ulsam_deploy.graph.replay.test_replay import FAULTS, Fault, at, honest, program, shown
from ulsam_deploy.device.arrays import Array
from ulsam_deploy.device.findings import Replay, ReplayedModule
from ulsam_deploy.device.types import StepGrid
from ulsam_deploy.graph import Program
from ulsam_deploy.graph.replay.replaying import Batch, replay
from ulsam_deploy.graph.replay.rounding import ALLOWED

__all__ = ["program"]  # the fixture

RANGES = {"stem.2:hardtanh": (0.0, 6.0), "pool:max_pool2d": (0.0, 6.0), "body:conv2d": (-6.0, 6.0)}


@dataclass
class Quantizers:
    """Rounds what some modules give, and shows it before and behind.

    ``scale`` and ``zero``: what is wrong about what the next module reads; ``unread``: where it reads what was not
    rounded; ``shows``: what is before a quantizer as well.
    """

    fault: Fault
    ranges: Mapping[str, tuple[float, float]] = field(default_factory=lambda: RANGES)
    scale: float = 1.0
    zero: int = 0
    unread: tuple[str, ...] = ()
    shows: bool = True
    inside: dict[str, Array] = field(default_factory=dict)
    grids: dict[str, StepGrid] = field(default_factory=dict)

    def __call__(self, where: str, value: Tensor) -> Tensor:
        value = self.fault(where, value)
        if where not in self.ranges:
            return value
        low, high = self.ranges[where]
        step = (high - low) / 255
        behind = ((value.clamp(low, high) / step).round() + self.zero) * step * self.scale
        before, name = f"{where} before", f"{where} behind"
        self.inside |= {before: value.numpy(), name: behind.numpy()} if self.shows else {name: behind.numpy()}
        self.grids[name] = StepGrid((step,), (low,), (high,), 0, before if self.shows else "")
        return value if where in self.unread else behind


def found(program: Program, quantizers: Quantizers) -> Replay:
    """The replay of two batches."""
    batches: list[Batch] = []
    for number in range(2):
        quantizers.inside = {}
        batch = shown(program, "fp32", quantizers, number)
        # what a quantizer's place has is shown twice, and nothing else is shown there
        kept = {name: array for name, array in batch.inside.items() if not _is_one_of(array, quantizers.inside)}
        batches.append(replace(batch, inside={**kept, **quantizers.inside}))
    return replay(program, "int8", batches, quantizers.grids)[0]


def _is_one_of(array: Array, arrays: Mapping[str, Array]) -> bool:
    return any(array.shape == other.shape and np.array_equal(array, other) for other in arrays.values())


def module(found: Replay, path: str) -> ReplayedModule:
    return next(one for one in found.modules if one.module == path)


@pytest.mark.parametrize("unread", [(), ("stem.2:hardtanh",), tuple(RANGES)])
def test_honest_rounding_is_proven_whatever_is_read(program: Program, unread: tuple[str, ...]) -> None:
    result = found(program, Quantizers(honest, unread=unread))
    assert result.wrong == ()
    assert result.proves
    assert result.worst is not None
    assert result.worst.ratio is not None
    assert result.worst.ratio < ALLOWED / 2


@pytest.mark.parametrize("name", FAULTS)
def test_a_wrong_module_is_named(program: Program, name: str) -> None:
    path, fault = FAULTS[name]
    wrong = [one.module for one in found(program, Quantizers(fault)).wrong]
    assert wrong
    assert wrong[0] == path


@pytest.mark.parametrize(("scale", "zero"), [(1.05, 0), (0.98, 0), (1.0, 1), (1.0, -1)])
def test_a_wrong_scale_or_zero_point_is_the_quantizer_s(program: Program, scale: float, zero: int) -> None:
    result = found(program, Quantizers(honest, {"stem.2:hardtanh": (0.0, 6.0)}, scale, zero))
    (wrong,) = result.wrong
    assert (wrong.module, wrong.operator) == ("stem.2", "quantize")
    assert wrong.ratio is not None
    assert wrong.ratio > ALLOWED


@pytest.mark.parametrize("shows", [True, False])
def test_what_is_clipped_is_counted(program: Program, shows: bool) -> None:
    result = found(program, Quantizers(honest, {"stem.2:hardtanh": (0.0, 1.8)}, shows=shows))
    assert result.wrong == ()
    assert 0.02 < module(result, "stem.2").clipped < 0.2


def test_a_range_that_most_values_are_beyond_is_wrong(program: Program) -> None:
    result = found(program, Quantizers(honest, {"stem.2:hardtanh": (0.0, 0.3)}))
    assert [(one.module, one.operator) for one in result.wrong] == [("stem.2", "quantize")]
    assert found(program, Quantizers(honest, {"stem.2:hardtanh": (0.0, 0.3)}, shows=False)).wrong


def test_steps_for_each_channel_are_known(program: Program) -> None:
    """One channel's step says nothing about the others'."""
    steps = np.array([1.0, *[6 / 255] * 7])

    def stored(where: str, value: Tensor) -> Tensor:
        if where != "stem.2:hardtanh":
            return value
        each = torch.from_numpy(steps).float().view(1, 8, 1, 1)
        return (value / each).round() * each

    batches = [shown(program, "fp32", stored, number) for number in range(2)]
    before = [shown(program, "fp32", honest, number).inside["hardtanh"] for number in range(2)]
    batches = [replace(one, inside={**one.inside, "before": values}) for one, values in zip(batches, before)]
    grid = StepGrid(tuple(steps), (0.0,) * 8, tuple(255 * steps), 1, "before")
    assert replay(program, "int8", batches, {"hardtanh": grid})[0].wrong == ()
    coarse = replace(grid, steps=(6 / 255,) * 8)
    assert replay(program, "int8", batches, {"hardtanh": coarse})[0].wrong


@pytest.mark.parametrize(
    ("amount", "ranges", "is_honest"),
    [(0.06, {":mean": (0.0, 8.0)}, True), (0.06, {}, False), (2.0, {":mean": (0.0, 8.0)}, False)],
)
def test_a_bias_may_make_good_what_rounding_changes_on_average(
    program: Program, amount: float, ranges: dict[str, tuple[float, float]], is_honest: bool
) -> None:
    """Bias correction moves all of a channel, where what a product reads was rounded, and by no more than that does."""
    moved = at("head:linear", lambda y: y + amount * torch.linspace(-1, 1, 5))
    wrong = [one.module for one in found(program, Quantizers(moved, ranges)).wrong]
    assert wrong == ([] if is_honest else ["head"])
