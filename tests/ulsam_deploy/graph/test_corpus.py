"""Every network of the corpus is fused or refused as it should be, and every rewrite is proven exact in float64."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from ulsam_deploy.exporters import lowerings
from ulsam_deploy.graph import Program, Proof, capture, fuse_attention, lower

from .corpus import Case
from .networks import ALL
from .spellings import randomise

CONV, SOFTMAX, ATTENTION = "aten.conv2d.default", "aten.softmax.int", "ulsam.subspace_attention.default"


def operators(program: Program) -> list[str]:
    return [str(node.target) for node in program.exported.graph.nodes if node.op == "call_function"]


@dataclass(frozen=True)
class Rewritten:
    case: Case
    captured: Program
    fused: Program


#: Every third case is part of the fast suite, and all of them of CI's.
CASES = [pytest.param(case, marks=() if index % 3 == 0 else pytest.mark.long) for index, case in enumerate(ALL)]


@pytest.fixture(scope="module", params=CASES, ids=[case.name for case in ALL])
def rewritten(request: pytest.FixtureRequest) -> Rewritten:
    case: Case = request.param
    captured = capture(randomise(case.make()), case.inputs, case.batch)
    return Rewritten(case, captured, fuse_attention(captured))


def test_is_fused_or_refused_as_it_should_be(rewritten: Rewritten) -> None:
    case, fused = rewritten.case, rewritten.fused
    assert {block.path: block.subspaces for block in fused.blocks} == dict(case.blocks), fused.refusals
    assert [refusal.path for refusal in fused.refusals] == [path for path, _ in case.refusals]
    for refusal, (_, reason) in zip(fused.refusals, case.refusals, strict=True):
        assert reason in refusal.reason


def test_nothing_of_a_fused_block_is_left(rewritten: Rewritten) -> None:
    case, before, after = rewritten.case, operators(rewritten.captured), operators(rewritten.fused)
    assert after.count(ATTENTION) == len(case.blocks)
    if case.alone:
        assert [name for name in after if name != "aten.sym_size.int"] == [CONV, ATTENTION, CONV]
    elif not case.refusals and case.blocks:
        assert after.count(SOFTMAX) == after.count("aten.max_pool2d.default") == case.keeps
    elif not case.blocks:
        assert after == before


def test_is_exact_in_float64(rewritten: Rewritten) -> None:
    proof = Proof(rewritten.captured)
    proof.check(rewritten.fused, "fusing")
    if rewritten.fused.blocks:
        for lowering in (lowerings.broadcast, lowerings.channels_last):
            lowered = lower(rewritten.fused, lowering)
            assert not [name for name in operators(lowered) if name.startswith("ulsam")]
            proof.check(lowered, lowering.__name__)


def test_the_corpus_is_large_and_every_name_is_its_own() -> None:
    names = [case.name for case in ALL]
    assert len(names) == len(set(names)) >= 40
