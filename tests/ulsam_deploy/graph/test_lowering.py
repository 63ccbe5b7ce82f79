"""Lowering leaves no custom operator and no constant arithmetic; the editor leaves the program that it copied alone."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ulsam_deploy.graph import Evaluator, Program, capture, fuse_attention, lower, prove
from ulsam_deploy.graph.editing import Constants, Editor
from ulsam_deploy.graph.operator import attention_map

from .corpus import net
from .spellings import H, Returning, W, randomise


class Offset(nn.Module):
    """A network with a buffer and constants of its own around a block that returns its maps."""

    def __init__(self) -> None:
        super().__init__()
        self.body = net(Returning(3))
        self.register_buffer("offset", torch.randn(1, 4, 1, 1))
        self.register_buffer("places", torch.tensor([2, 0]))

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        outputs = self.body(image)
        return outputs | {"y": (outputs["y"] + self.offset * torch.arange(4).view(1, 4, 1, 1))[:, self.places]}


def with_constants(
    x: Tensor, gate_scale: Tensor, gate_bias: Tensor, score_weight: Tensor, score_bias: Tensor, subspaces: int
) -> Tensor:
    """A lowering that makes index tensors, a 0/1 matrix and other weights out of the given ones."""
    a = attention_map(x, gate_scale, gate_bias, score_weight * 3 / 3, score_bias, subspaces)
    owner = torch.arange(x.shape[1]) // (x.shape[1] // subspaces)
    spread = torch.eye(subspaces, dtype=x.dtype)[owner]
    wide = F.conv2d(a.reshape(-1, subspaces, *x.shape[2:]), spread[:, :, None, None])
    return x + wide * x


@pytest.fixture(scope="module", params=[2, None], ids=["batch 2", "dynamic"])
def captured(request: pytest.FixtureRequest) -> Program:
    return capture(randomise(Offset()), [(3, H, W)], request.param)


def test_nothing_that_is_constant_is_left_to_compute(captured: Program) -> None:
    lowered = lower(fuse_attention(captured), with_constants)
    constants = Constants(lowered.exported)
    calls = [node for node in lowered.exported.graph.nodes if node.op == "call_function"]
    assert not [node.name for node in calls if constants.known(node) and node.users]
    targets = {str(node.target) for node in calls}
    assert not targets & {"aten.arange.default", "aten.eye.default", "aten.floor_divide.default"}
    assert not [target for target in targets if "ulsam" in target]
    assert prove(captured, lowered, "lowering") < 1e-12


def test_what_is_folded_is_exact_beyond_float32(captured: Program) -> None:
    fused = fuse_attention(captured)
    assert {tensor.dtype for tensor in fused.exact.values()} == {torch.float64}
    for name, tensor in fused.exact.items():
        assert torch.equal(fused.exported.state_dict[name], tensor.float())
    assert any(not torch.equal(tensor, tensor.float().double()) for tensor in fused.exact.values())


def test_a_dynamic_program_serves_other_batches() -> None:
    captured = capture(randomise(Offset()), [(3, H, W)], None)
    lowered = lower(fuse_attention(captured), with_constants)
    for batch in (1, 5):
        image = [torch.randn(batch, 3, H, W)]
        expected, given = Evaluator(captured).run(image), Evaluator(lowered).run(image)
        assert list(given) == list(expected)
        for name in expected:
            torch.testing.assert_close(given[name], expected[name], rtol=1e-12, atol=1e-12)


def test_the_networks_own_buffers_keep_their_names_and_values(captured: Program) -> None:
    state = lower(fuse_attention(captured), with_constants).exported.state_dict
    before = captured.exported.state_dict
    for name in ("model.body.stem.weight", "model.places"):
        assert torch.equal(state[name], before[name])
    assert not [name for name in state if "branches" in name]  # folded into the block's node


def test_an_editor_changes_a_copy() -> None:
    program = capture(randomise(Offset()), [(3, H, W)]).exported
    before = str(program.graph)
    editor = Editor(program)
    first, second = (
        editor.add_buffer("extra", torch.full((1,), 3.0)),
        editor.add_buffer("extra", torch.ones(1).double() / 3),
    )
    assert first.name != second.name
    (conv, *_) = editor.graph.find_nodes(op="call_function", target=torch.ops.aten.conv2d.default)
    with editor.graph.inserting_before(conv):
        scaled = editor.graph.node_copy(conv)
        for buffer in (first, second):
            scaled = editor.graph.call_function(torch.ops.aten.mul.Tensor, (scaled, buffer))
            scaled.meta = dict(conv.meta)
    editor.replace(conv, by=scaled)
    edited = editor.finish()
    image = torch.randn(1, 3, H, W)
    for found, expected in zip(edited.module()(image), program.module()(image), strict=True):
        torch.testing.assert_close(found, expected)
    assert editor.exact[second.name].dtype is torch.float64
    assert str(program.graph) == before
    assert set(edited.state_dict) - set(program.state_dict) == {first.name, second.name}


def test_an_editor_follows_replacements_of_replacements() -> None:
    class Chain(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.relu(x)

    program = capture(Chain(), [(3,)]).exported
    (relu,) = program.graph.find_nodes(op="call_function", target=torch.ops.aten.relu.default)
    editor = Editor(program)
    for target in (torch.ops.aten.neg.default, torch.ops.aten.abs.default):
        old = editor.counterpart(relu)
        with editor.graph.inserting_before(old):
            new = editor.graph.call_function(target, (old.args[0],))
            new.meta = dict(old.meta)
        editor.replace(old, by=new)
    (result,) = editor.finish().module()(torch.tensor([[-1.0, 2.0, -3.0]]))
    assert result.tolist() == [[1.0, 2.0, 3.0]]


def test_what_is_random_is_no_constant() -> None:
    class Noise(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x * torch.rand(3) * torch.ones(3)

    program = capture(Noise(), [(3,)]).exported
    constants = Constants(program)
    known = {str(node.target): constants.known(node) for node in program.graph.nodes if node.op == "call_function"}
    assert known["aten.ones.default"]
    assert not known["aten.rand.default"]
