"""The proof must fail when it should: each test makes one small mistake in a rewritten program."""

from __future__ import annotations

import dataclasses

import pytest
from torch import Tensor, nn

from ulsam_deploy.device.errors import ExportError
from ulsam_deploy.graph import Program, capture, fuse_attention, lower, prove

from .corpus import net
from .spellings import Block, H, W, randomise


@pytest.fixture(scope="module")
def captured() -> Program:
    return capture(randomise(net(Block(3))), [(3, H, W)])


@pytest.fixture(scope="module")
def fused(captured: Program) -> Program:
    return fuse_attention(captured)


def changed(program: Program, weight: str, change: object) -> Program:
    (name,) = [name for name in program.exact if name.endswith(weight)]
    tensor = program.exact[name].clone()
    return dataclasses.replace(program, exact={**program.exact, name: change(tensor)})


def nudge(tensor: Tensor) -> Tensor:
    tensor.flatten()[0] *= 1 + 1e-6
    return tensor


def test_a_sound_rewrite_passes_with_room_to_spare(captured: Program, fused: Program) -> None:
    assert prove(captured, fused, "fusing") < 2.0**-42


# Not the gate's bias: where its ReLU is open it moves all scores alike, and a softmax doesn't see that.
@pytest.mark.parametrize("weight", ["gate_scale", "score_weight", "score_bias"])
def test_one_weight_off_by_a_millionth_is_seen(captured: Program, fused: Program, weight: str) -> None:
    with pytest.raises(ExportError, match="fusing changed the network: output 'output' differs"):
        prove(captured, changed(fused, weight, nudge), "fusing")


def test_float32_weights_in_place_of_float64_ones_are_seen(captured: Program, fused: Program) -> None:
    with pytest.raises(ExportError, match="differs"):
        prove(captured, dataclasses.replace(fused, exact={}), "fusing")


@pytest.mark.parametrize("weight", ["score_weight", "score_bias"])
def test_two_swapped_subspaces_are_seen(captured: Program, fused: Program, weight: str) -> None:
    with pytest.raises(ExportError, match="differs"):
        prove(captured, changed(fused, weight, lambda tensor: tensor[[1, 0, 2]]), "fusing")


def test_attention_dropped_from_a_large_map_is_seen() -> None:
    captured = capture(randomise(net(Block(3))), [(3, 56, 56)])
    fused = fuse_attention(captured)
    assert prove(captured, fused, "fusing") < 2.0**-42
    with pytest.raises(ExportError, match="ablating changed"):
        prove(captured, lower(fused, lambda x, *_: x.clone()), "ablating")


class Output(nn.Module):
    def __init__(self, function: object) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (lambda x: x + 1, lambda x: (x + 1) * float("nan")),
        (lambda x: x * 0, lambda x: x * 0 + 1e-30),
        (lambda x: (x > 0).long(), lambda x: (x >= 0.25).long()),
        (lambda x: x.sum(1), lambda x: x.sum(1, keepdim=True)),
    ],
    ids=["nan", "zero", "integers", "shape"],
)
def test_other_outputs_are_seen(before: object, after: object) -> None:
    one, other = (capture(Output(function), [(3, 4, 4)]) for function in (before, after))
    prove(one, one, "nothing")
    with pytest.raises(ExportError, match="differs by"):
        prove(one, other, "a mistake")
