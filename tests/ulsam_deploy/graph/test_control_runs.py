"""Control runs in low precision: what they round, what they leave, and the noise floors that they make."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from ulsam_deploy.device.errors import ExportError, UsageError
from ulsam_deploy.device.parity import Golden, is_built_in, make_probes
from ulsam_deploy.device.types import Calibration
from ulsam_deploy.graph import Evaluator, Program, capture, fuse_attention, make_golden, measure_floors
from ulsam_deploy.graph.quantized import Fake, Grid, Ranges, observe, rounded_weights
from ulsam_deploy.inputs.calibration import digest
from ulsam_deploy.models.ulsam import ULSAM

SHAPE = (3, 12, 12)


def network() -> nn.Module:
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 8, 3, padding=1), nn.ReLU6(), ULSAM(8, 2), nn.Conv2d(8, 8, 3, 2), nn.ReLU()]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(200, 5)).eval()


@pytest.fixture(scope="module")
def programs() -> tuple[Program, Program]:
    captured = capture(network(), [SHAPE], 1)
    return captured, fuse_attention(captured)


def samples(count: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, *SHAPE)).astype(np.float32)


@pytest.fixture(scope="module")
def calibration() -> Calibration:
    arrays = {"input": samples(16, 1)}
    return Calibration(arrays, digest(arrays))


@pytest.fixture(scope="module")
def golden(programs: tuple[Program, Program]) -> Golden:
    built_in, names = make_probes({"input": SHAPE}, count=6)
    probes = {"input": np.concatenate([built_in["input"], samples(6, 2)])}
    return make_golden(*programs, probes, (*names, *(f"held-out-{i}" for i in range(6))))


def test_weights_lie_on_127_steps_a_channel_and_move_by_half_a_step_at_most() -> None:
    weight = torch.randn(6, 4, 3, 3) * torch.logspace(-3, 3, 6)[:, None, None, None]
    rounded = rounded_weights(weight)
    steps = weight.abs().flatten(1).amax(1) / 127
    numbers = rounded.flatten(1) / steps[:, None]
    assert torch.allclose(numbers, numbers.round(), atol=1e-3)
    assert numbers.abs().max() <= 127.001
    assert ((rounded - weight).abs().flatten(1).amax(1) <= steps * 0.501).all()
    assert torch.equal(rounded_weights(torch.zeros(2, 3)), torch.zeros(2, 3))


@pytest.mark.parametrize("symmetric", [True, False])
def test_activations_lie_on_the_grid_of_their_known_range(programs: Any, symmetric: bool) -> None:
    node = next(node for node in programs[0].exported.graph.nodes if node.op == "call_function")
    value = torch.linspace(-2, 6, 1001)
    ranges = Ranges({node.name: (-1.0, 3.0)}, Grid(symmetric=symmetric))
    rounded = ranges.round(node, value)
    low, high = (-3.0, 3.0) if symmetric else (-1.0, 3.0)
    assert float(rounded.min()) == pytest.approx(max(low, -2.0), abs=4 / 255)
    assert float(rounded.max()) == pytest.approx(high, abs=4 / 255)
    assert len(rounded.unique()) <= 256
    assert float(ranges.round(node, torch.zeros(1))) == 0, "zero is always on the grid"


def test_ranges_are_the_extremes_over_all_samples(programs: tuple[Program, Program], calibration: Calibration) -> None:
    found = observe(programs[0], calibration)
    array = calibration.arrays["input"]
    (name,) = [node.name for node in Evaluator(programs[0])._inputs]
    assert found[name] == pytest.approx((array.min(), array.max()))
    for node, value in Evaluator(programs[0], torch.float32).every([torch.from_numpy(array[3:4])]):
        if isinstance(value, torch.Tensor) and value.is_floating_point():
            low, high = found[node.name]
            assert low - 1e-6 <= float(value.min()) <= float(value.max()) <= high + 1e-6


def test_a_run_without_rounding_is_the_network(programs: tuple[Program, Program]) -> None:
    image = [torch.from_numpy(samples(1, 3))]
    (plain,), (same,) = (
        run(programs[1]).run(image).values()
        for run in (lambda p: Evaluator(p, torch.float32), lambda p: Fake(p, weights=lambda weight: weight))
    )
    assert torch.equal(plain, same)
    (rounded,) = Fake(programs[1], weights=rounded_weights).run(image).values()
    assert 0 < float((rounded - plain).abs().max()) < 0.1 * float(plain.abs().max())


def test_what_is_skipped_is_left_alone(programs: tuple[Program, Program]) -> None:
    image = [torch.from_numpy(samples(1, 3))]
    (plain,) = Evaluator(programs[1], torch.float32).run(image).values()
    skipped = Fake(programs[1], weights=rounded_weights, skip=("0", "2", "3", "6"))
    (found,) = skipped.run(image).values()
    assert torch.equal(found, plain)


def test_precision_floors_grow_with_the_loss_of_precision(
    programs: tuple[Program, Program], golden: Golden, calibration: Calibration
) -> None:
    found = {p: measure_floors(*programs, golden, p, calibration) for p in ("fp16", "int8-dynamic", "int8")}
    floors = {precision: next(iter(one.floors.values())) for precision, one in found.items()}
    (single,) = golden.floors.values()
    assert single.l2 < floors["fp16"].l2 < floors["int8-dynamic"].l2 <= floors["int8"].l2 * 1.5
    assert floors["int8"].l2 < 0.2
    assert found["fp16"].kept == tuple(range(12))
    assert found["int8"].kept == tuple(range(6, 12)), "built-in probes are not like what int8 was calibrated on"
    assert floors["int8"].runs == 4


def test_int8_without_ranges_is_refused(programs: tuple[Program, Program], golden: Golden) -> None:
    with pytest.raises(UsageError, match="int8 needs ranges"):
        measure_floors(*programs, golden, "int8")


def test_a_network_that_overflows_float16_says_so() -> None:
    class Large(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return ((x.abs() + 1) * 1e5).mean((2, 3))

    captured = capture(Large(), [SHAPE], 1)
    fused = fuse_attention(captured)
    probes, names = make_probes({"x": SHAPE}, count=4)
    with pytest.raises(ExportError, match="overflows float16"):
        measure_floors(captured, fused, make_golden(captured, fused, probes, names), "fp16")


@pytest.mark.parametrize(("name", "built_in"), [("yours-3", False), ("held-out-0", False), ("normal-1", True)])
def test_real_inputs_are_known_by_their_names(name: str, built_in: bool) -> None:
    assert is_built_in(name) is built_in
