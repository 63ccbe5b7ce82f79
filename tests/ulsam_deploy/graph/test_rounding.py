"""Weights rounded before any converter sees them: on the grid, better than the nearest, attention untouched."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from ulsam_deploy.device.types import Calibration
from ulsam_deploy.graph import Evaluator, Program, capture, fuse_attention, rounding
from ulsam_deploy.graph.gptq import chosen, nearest, steps
from ulsam_deploy.graph.rounding import RoundedWeights, rounded_weights
from ulsam_deploy.models.ulsam import ULSAM

SIZE = 12
LEVELS = 7  # of 4 bits: what rounding does is large
PRODUCTS = ("0", "3", "6", "10")


def network() -> nn.Module:
    """A stem, a depthwise and a pointwise convolution, attention, and a classifier."""
    torch.manual_seed(3)
    made = nn.Sequential(
        nn.Conv2d(3, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8), nn.ReLU6(),
        nn.Conv2d(8, 8, 3, 1, 1, groups=8, bias=False), nn.BatchNorm2d(8), nn.ReLU(),
        nn.Conv2d(8, 12, 1), ULSAM(12, 4),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(12, 5),
    )  # fmt: skip
    for layer in made.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.running_mean = torch.randn(layer.num_features) / 4
            layer.running_var = torch.rand(layer.num_features) + 0.5
            nn.init.normal_(layer.weight, 1, 0.5)
            nn.init.normal_(layer.bias, 0, 0.5)
    return made.eval()


@cache
def case() -> tuple[Program, Calibration, RoundedWeights]:
    random = np.random.default_rng(1)
    blobs = random.standard_normal((24, 3, 4, 4)) + random.standard_normal((24, 1, 4, 4)) + 0.4
    smooth = blobs.repeat(SIZE // 4, 2).repeat(SIZE // 4, 3)  # as in pictures, neighbours are alike
    calibration = Calibration({"input": smooth.astype(np.float32)}, "")
    program = fuse_attention(capture(network(), [(3, SIZE, SIZE)], 1))
    return program, calibration, rounded_weights(program, calibration, LEVELS)


def _weights(program: Program) -> dict[str, Tensor]:
    return {name.removeprefix("model."): tensor.detach() for name, tensor in program.exported.state_dict.items()}


def _folded(program: Program) -> dict[str, Tensor]:
    """The weights of each product times what the batch norm behind it multiplies with."""
    found = _weights(program)
    result = {}
    for name in PRODUCTS:
        norm = str(int(name) + 1)
        weight = found[f"{name}.weight"].double()
        if f"{norm}.running_var" in found:
            factor = found[f"{norm}.weight"].double() / (found[f"{norm}.running_var"].double() + 1e-5).sqrt()
            weight = weight * factor.reshape(-1, 1, 1, 1)
        result[name] = weight
    return result


def _every(program: Program, calibration: Calibration) -> dict[str, Tensor]:
    """The value of every operator on all samples, by node."""
    parts = []
    for feed in calibration.batches(1):
        found = Evaluator(program).every([torch.from_numpy(feed[spec.name]) for spec in program.inputs])
        parts.append({node.name: value for node, value in found if isinstance(value, Tensor)})
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


def test_weights_lie_on_the_grid_that_an_engine_finds_again() -> None:
    program, _, weights = case()
    for name, weight in _folded(weights.within(program)).items():
        counted = weight / steps(weight, LEVELS).reshape(-1, *(1,) * (weight.ndim - 1))
        torch.testing.assert_close(counted, counted.round(), atol=1e-4, rtol=0)
        torch.testing.assert_close(nearest(weight, LEVELS), weight, rtol=1e-5, atol=1e-7)
        before = _folded(program)[name]
        torch.testing.assert_close(steps(weight, LEVELS), steps(before, LEVELS), rtol=1e-5, atol=0)


def test_what_the_network_gives_changes_less_than_with_the_nearest_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    program, calibration, weights = case()
    monkeypatch.setattr(
        rounding, "chosen", lambda weight, _, levels: nearest(weight.flatten(0, 1), levels).reshape(weight.shape)
    )
    near = rounded_weights(program, calibration, LEVELS)
    right, ours, others = (_every(one, calibration) for one in (program, weights.within(program), near.within(program)))
    for name in ("getitem", "linear"):  # behind the first batch norm, and the output
        assert (ours[name] - right[name]).square().mean() < 0.7 * (others[name] - right[name]).square().mean(), name


def test_no_channel_is_off_on_average() -> None:
    program, calibration, weights = case()
    right, found = (_every(one, calibration) for one in (program, weights.within(program)))
    ends = [name for name in right if name.startswith(("getitem", "conv2d_2", "linear"))]
    assert len(ends) == 4
    for name in ends:
        axes = [0, *range(2, right[name].ndim)]
        moved = (found[name] - right[name]).mean(axes)
        assert moved.abs().max() < 1e-5 * right[name].abs().max(), name
        assert (found[name] - right[name]).square().mean().sqrt() > 1e-3 * right[name].std(), "weights were rounded"


def test_attention_and_kept_modules_stay_as_they_are() -> None:
    program, _, weights = case()
    assert set(weights.modules.values()) == set(PRODUCTS)
    before, after = _weights(program), _weights(weights.within(program, ("3", "7")))
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {
        "0.weight", "1.bias", "6.weight", "6.bias", "10.weight", "10.bias",
    }  # fmt: skip
    assert [n.name for n in weights.within(program).exported.graph.nodes] == [
        n.name for n in program.exported.graph.nodes
    ]


def test_weights_that_are_used_twice_stay_as_they_are() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one = nn.Conv2d(3, 3, 1)

        def forward(self, x: Tensor) -> Tensor:
            result: Tensor = self.one(self.one(x).relu())
            return result

    program = capture(Twice().eval(), [(3, 4, 4)], 1)
    calibration = Calibration({"x": np.random.default_rng(0).random((4, 3, 4, 4), np.float32)}, "")
    assert not rounded_weights(program, calibration, 127).values


@pytest.mark.parametrize("groups", [1, 3])
def test_the_choice_is_better_for_inputs_that_move_together(groups: int) -> None:
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(groups, 6, 16, generator=generator, dtype=torch.float64)
    mixing = torch.randn(groups, 16, 4, generator=generator, dtype=torch.float64)
    covariance = mixing @ mixing.mT + 0.01 * torch.eye(16, dtype=torch.float64)

    def error(found: Tensor) -> Any:
        off = found - weight
        return (off @ covariance * off).sum()

    near = nearest(weight.reshape(-1, 16), LEVELS).reshape(weight.shape)
    assert error(chosen(weight, covariance, LEVELS)) < 0.2 * error(near)


def test_inputs_that_never_vary_and_channels_of_zeros_do_no_harm() -> None:
    weight = torch.zeros(1, 2, 4, dtype=torch.float64)
    weight[0, 0] = torch.tensor([0.3, -1.0, 0.21, 0.0])
    found = chosen(weight, torch.zeros(1, 4, 4, dtype=torch.float64), LEVELS)
    torch.testing.assert_close(found[0], nearest(weight[0], LEVELS))
