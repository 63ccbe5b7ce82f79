"""A gate's ablation is the network with that gate folded to a constant, and nothing else changed."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tests.ulsam_deploy.graph.watching.networks import GATES, SIDE, Heads, Small, small
from ulsam_deploy.graph import capture, fuse_attention
from ulsam_deploy.graph.watching.choice import MOST, choose_gates, folded_on, gate_ablations

SHAPE = (3, 2 * SIDE, 2 * SIDE)


def probes(count: int = 8) -> Tensor:
    return torch.randn(count, *SHAPE, generator=torch.Generator().manual_seed(1))


def test_channel_weights_are_folded_to_their_mean() -> None:
    network, x = small("se").double(), probes().double()
    attention = network.attention
    before = network.stem(x)
    weights = attention(before) / before.where(before != 0, torch.ones(())).double()
    given = (before != 0).double()
    mean = (weights * given).sum((0, 2, 3)) / given.sum((0, 2, 3))  # of each channel, over inputs: all of one size
    pooled = attention.up(torch.relu(attention.down(before.mean((2, 3), keepdim=True)))).sigmoid()
    expected = network.head(network.middle(before * pooled.mean(0)))
    assert (mean - pooled.mean(0).flatten()).abs().max() < 0.1
    program = fuse_attention(capture(small("se"), [SHAPE]))
    chosen = choose_gates(program, ["auto"], {"x": probes()}, 1)
    found = torch.cat([part[0]["logits"] for part in gate_ablations(program, chosen, {"x": probes()}, 1)])
    torch.testing.assert_close(found, expected)


def test_fused_attention_is_folded_to_its_mean_map() -> None:
    class Wordy(Heads):
        """The same in plain words."""

        def forward(self, x: Tensor) -> Tensor:
            tokens = x.flatten(2).transpose(1, 2)
            n, t, c = tokens.shape
            q, k, v = self.qkv(tokens).view(n, t, 3, 2, c // 2).permute(2, 0, 3, 1, 4).unbind(0)
            a = (3 * q @ k.transpose(-1, -2) / (c // 2) ** 0.5).softmax(-1)
            return x + self.out((a @ v).transpose(1, 2).reshape(n, t, c)).transpose(1, 2).reshape(x.shape)

    network, wordy = small("heads"), Small(Wordy).eval()
    wordy.load_state_dict(network.state_dict())
    found = []
    for one in (network, wordy):
        program = fuse_attention(capture(one, [SHAPE]))
        chosen = choose_gates(program, ["auto"], {"x": probes()}, 1)
        found.append(torch.cat([part[0]["logits"] for part in gate_ablations(program, chosen, {"x": probes()}, 1)]))
    torch.testing.assert_close(found[0], found[1])
    with torch.no_grad():
        assert (found[0] - network(probes())).abs().max() > 1e-3


def test_a_named_module_gives_its_affine_fit() -> None:
    """A module that is affine by channel is its own fit, so that its ablation changes nothing."""

    class Affine(torch.nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return 3 * x + 1

    program = fuse_attention(capture(Small(Affine).eval(), [SHAPE]))
    chosen = choose_gates(program, ["attention"], {"x": probes()}, 1)
    ablated = torch.cat([part[0]["logits"] for part in gate_ablations(program, chosen, {"x": probes()}, 1)])
    with torch.no_grad():
        torch.testing.assert_close(ablated, Small.forward(_double(program, Affine), probes().double()))


def _double(program: object, block: type[torch.nn.Module]) -> Small:
    """The network that :func:`test_a_named_module_gives_its_affine_fit` captured, in float64."""
    network = Small(block).eval().double()
    state = program.exported.state_dict  # type: ignore[attr-defined]
    network.load_state_dict({name.removeprefix("model."): tensor.double() for name, tensor in state.items()})
    return network


class Many(torch.nn.Module):
    """More gates than are watched by default; the third matters least."""

    def __init__(self) -> None:
        super().__init__()
        self.gates = torch.nn.ModuleList(GATES["se"]() for _ in range(MOST + 1))
        self.gates[2].up.weight.data.zero_()  # its weights are the same for every input

    def forward(self, x: Tensor) -> Tensor:
        for gate in self.gates:
            x = 2 * gate(x) + 0.1
        return x


@pytest.mark.parametrize(("watch", "count"), [("auto", MOST), ("all", MOST + 1)])
def test_of_many_gates_those_that_matter_most_are_watched(watch: str, count: int) -> None:
    program = fuse_attention(capture(Small(Many).eval(), [SHAPE]))
    chosen = choose_gates(program, [watch], {"x": probes()}, 1)
    assert len(chosen.gates) == count
    assert chosen.left_out == (("attention.gates.2",) if watch == "auto" else ())


def test_what_is_learned_in_another_place_is_learned_alike() -> None:
    program = fuse_attention(capture(small("se"), [SHAPE]))
    folded = folded_on(program, ["attention"], [[x[None]] for x in probes()])
    (gate,) = folded.gates
    (found,) = folded.instead(gate).values()
    (other,) = choose_gates(program, ["auto"], {"x": probes()}, 1).folded.instead(gate).values()
    like = torch.zeros(1, 16, 1, 1, dtype=torch.float64)
    torch.testing.assert_close(found(like, {}), other(like, {}))
