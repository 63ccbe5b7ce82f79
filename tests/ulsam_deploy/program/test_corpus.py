"""Every block of the corpus is raised or refused as it should be, and every rewrite is proven exact in float64."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from ulsam_deploy.exporters import lowerings

from ulsam_deploy.program import Program, capture, lower, prove, raise_attention

from .corpus import CASES, Case
from .spellings import randomise

SOFTMAX, ATTENTION = "aten.softmax.int", "ulsam.subspace_attention.default"


def operators(program: Program) -> list[str]:
    return [str(node.target) for node in program.exported.graph.nodes if node.op == "call_function"]


@dataclass(frozen=True)
class Rewritten:
    case: Case
    captured: Program
    raised: Program


@pytest.fixture(scope="module", params=CASES, ids=lambda case: case.name)
def rewritten(request: pytest.FixtureRequest) -> Rewritten:
    case: Case = request.param
    captured = capture(randomise(case.make()), case.inputs, case.batch)
    return Rewritten(case, captured, raise_attention(captured))


def test_is_raised_or_refused_as_it_should_be(rewritten: Rewritten) -> None:
    case, raised = rewritten.case, rewritten.raised
    assert {block.path: block.subspaces for block in raised.blocks} == dict(case.blocks), raised.refusals
    assert len(raised.refusals) == len(case.refusals), raised.refusals
    for refusal, (path, reason) in zip(raised.refusals, case.refusals, strict=True):
        assert refusal.path == path
        assert reason in refusal.reason


def test_is_exact_in_float64(rewritten: Rewritten) -> None:
    prove(rewritten.captured, rewritten.raised, "raising")
    if rewritten.raised.blocks:
        for lowering in (lowerings.broadcast, lowerings.channels_last):
            prove(rewritten.captured, lower(rewritten.raised, lowering), lowering.__name__)
