"""Random spellings with random faults: never a wrong fusion, and without a fault never a refusal."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from ulsam_deploy.exporters import lowerings
from ulsam_deploy.graph import capture, fuse_attention, lower, prove

from . import spellings as s
from .corpus import GATES, JOINS, RELUS, SCORES, SOFTMAXES, SPLITS, WEIGHINGS, net
from .lookalikes import REFUSED, pool_of_stride_two, shifted

FAULTS: dict[str, dict[str, Any]] = {
    "none": {},
    "relu6": {"relu": F.relu6},
    "score relu6": {"score_relu": F.relu6},
    "no score relu": {"score_relu": torch.neg},
    "pool 5x5": {"pool": lambda t: F.max_pool2d(t, 5, 1, 2)},
    "pool of stride 2": {"pool": pool_of_stride_two},
    "average pool": {"pool": lambda t: F.avg_pool2d(t, 3, 1, 1)},
    "softmax over H": {"attend": lambda t: torch.softmax(t, 2)},
    "softmax over the batch": {"attend": lambda t: torch.softmax(t, 0)},
    "temperature": {"attend": lambda t: s.softmax_view(t * 0.7)},
    "map turned": {"attend": lambda t: s.softmax_view(t).flip(2)},
    "shifted": {"weigh": shifted},
    "no residual": {"weigh": lambda a, x: a * x},
    "halved": {"weigh": lambda a, x: x.add(a * x, alpha=0.5)},
    "x*(a+2)": {"weigh": lambda a, x: x * a.add(1, alpha=1).add(1)},
    "x + a*relu(x)": {"weigh": lambda a, x: x + a * F.relu(x)},
}


@st.composite
def spelling(draw: st.DrawFn) -> dict[str, object]:
    def pick(table: dict[str, object]) -> object:
        return table[draw(st.sampled_from(sorted(table)))]

    relus = {**RELUS, "F.relu": F.relu}
    return {
        "gate": pick({**GATES, "conv and norm": s.GateConvNorm}),
        "relu": pick(relus),
        "score": pick({**SCORES, "conv and norm": s.conv_norm_score}),
        "score_relu": pick(relus),
        "attend": pick(SOFTMAXES),
        "weigh": pick(WEIGHINGS),
    }


@st.composite
def blocks(draw: st.DrawFn) -> tuple[s.Block, int]:
    """A block whose branches are each spelled in their own way, and how many of them have a fault."""
    groups = draw(st.sampled_from([1, 2, 3]))
    block = s.Block(
        groups, split=draw(st.sampled_from(list(SPLITS.values()))), join=draw(st.sampled_from(list(JOINS.values())))
    )
    faults = [draw(st.sampled_from(["none", "none", *sorted(FAULTS)])) for _ in range(groups)]
    for i, fault in enumerate(faults):
        block.branches[i] = s.Branch(s.C // groups, **{**draw(spelling()), **FAULTS[fault]})
    return block, groups - faults.count("none")


def check(block: s.Block, faulty: int) -> None:
    captured = capture(s.randomise(net(block)), [(3, s.H, s.W)], batch=2)
    fused = fuse_attention(captured)
    prove(captured, fused, "fusing")
    if fused.blocks:
        prove(captured, lower(fused, lowerings.broadcast), "lowering")
    groups = len(block.branches)
    assert sum(found.subspaces for found in fused.blocks) == groups - faulty, fused.refusals
    assert bool(fused.refusals) == bool(faulty)
    if not faulty:
        assert len(fused.blocks) == 1


#: Blocks that look like ULSAM and aren't, each in one step only, by the names of the corpus.
NEAR = {case.name: case.make for case in REFUSED if case.inputs == ((3, s.H, s.W),)}


class Chain(nn.Module):
    """Several blocks one after another, with convolutions between them."""

    def __init__(self, blocks: list[nn.Module]) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, s.C, 1)
        self.blocks = nn.ModuleList(blocks)
        self.between = nn.ModuleList(nn.Conv2d(s.C, s.C, 1) for _ in blocks)

    def forward(self, image: Tensor) -> Tensor:
        x = self.stem(image)
        for block, between in zip(self.blocks, self.between):
            x = between(block(x))
        return x


@st.composite
def chains(draw: st.DrawFn) -> tuple[list[nn.Module], int]:
    """A few blocks, sound ones in random spellings among lookalikes, and how many subspaces are to be fused."""
    made: list[nn.Module] = []
    groups = 0
    for name in draw(st.lists(st.sampled_from(["", *sorted(NEAR)]), min_size=2, max_size=3)):
        if name:
            made.append(NEAR[name]().get_submodule("block"))
        else:
            block = s.Block(
                2, split=draw(st.sampled_from(list(SPLITS.values()))), join=draw(st.sampled_from(list(JOINS.values())))
            )
            for i in range(2):
                block.branches[i] = s.Branch(s.C // 2, **draw(spelling()))
            made.append(block)
            groups += 2
    return made, groups


def check_chain(blocks: list[nn.Module], groups: int) -> None:
    captured = capture(s.randomise(Chain(blocks)), [(3, s.H, s.W)], batch=2)
    fused = fuse_attention(captured)
    prove(captured, fused, "fusing")
    assert sum(found.subspaces for found in fused.blocks) == groups, (fused.blocks, fused.refusals)
    assert bool(fused.refusals) == (len(fused.blocks) < len(blocks))


few = settings(
    max_examples=12, derandomize=True, deadline=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck)
)


@few
@given(blocks())
def test_never_a_wrong_fusion(drawn: tuple[s.Block, int]) -> None:
    check(*drawn)


@settings(few, max_examples=5)
@given(chains())
def test_never_a_lookalike_among_sound_blocks(drawn: tuple[list[nn.Module], int]) -> None:
    check_chain(*drawn)


@pytest.mark.slow
@settings(few, max_examples=200, derandomize=False)
@given(chains())
def test_never_a_lookalike_among_sound_blocks_in_many(drawn: tuple[list[nn.Module], int]) -> None:
    check_chain(*drawn)


@pytest.mark.slow
@settings(few, max_examples=300, derandomize=False)
@given(blocks())
def test_never_a_wrong_raise_in_many(drawn: tuple[s.Block, int]) -> None:
    check(*drawn)
