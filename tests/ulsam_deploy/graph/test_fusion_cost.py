"""Fusing must not be quadratic in the number of blocks. Calls are counted, not seconds: machines are busy."""

from __future__ import annotations

import cProfile
import pstats

from torch import nn

from ulsam_deploy.graph import capture, fuse_attention

from .corpus import net
from .spellings import Block, randomise


def calls(blocks: int) -> int:
    program = capture(randomise(net(nn.Sequential(*(Block(2) for _ in range(blocks))))), [(3, 6, 5)])
    with cProfile.Profile() as profile:
        fused = fuse_attention(program)
    assert len(fused.blocks) == blocks
    return pstats.Stats(profile).total_calls  # type: ignore[attr-defined]


def test_four_times_the_blocks_cost_about_four_times_as_much() -> None:
    calls(1)  # what is done once a process
    assert calls(12) < 1.3 * 4 * calls(3)
