"""Attention gates are found by their operations, whatever they are called; activations and norms are none."""

from __future__ import annotations

import io

import pytest
import torch
from torch import Tensor, nn

from tests.ulsam_deploy.graph.watching.networks import GATES, NO_GATES, SIDE, C, Small, small
from ulsam_deploy.device.errors import UsageError
from ulsam_deploy.graph import Program, capture, fuse_attention
from ulsam_deploy.graph.watching.finding import GateForm, find_gates, named_gates, watched_gates
from ulsam_deploy.models.ulsam import ULSAM

SHAPE = (3, 2 * SIDE, 2 * SIDE)

#: What each kind weighs.
FORMS = {
    "se": "channels", "se_hard": "channels", "se_expanded": "elements", "cbam": "elements", "eca": "channels",
    "coordinate": "elements", "sk": "channels", "context": "attention", "bam": "elements", "simam": "elements",
    "sge": "places", "ema": "places", "soft_argmax": "places", "non_local": "attention",
    "non_local_dot": "attention", "heads": "attention", "ulsam_look_alike": "places", "skip_gate": "places",
    "grn": "channels",
}  # fmt: skip


def fused(network: nn.Module, batch: int | None = 1) -> Program:
    return fuse_attention(capture(network.eval(), [SHAPE], batch))


@pytest.mark.parametrize("kind", GATES)
def test_each_kind_is_one_gate_in_its_module(kind: str) -> None:
    (gate,) = find_gates(fused(Small(GATES[kind])))
    assert gate.path == "attention"
    assert gate.form.value == FORMS[kind]


@pytest.mark.parametrize("kind", NO_GATES)
def test_activations_norms_and_layer_scales_are_no_gates(kind: str) -> None:
    assert find_gates(fused(Small(NO_GATES[kind]))) == ()


def test_what_is_fused_is_no_gate_as_well() -> None:
    program = fused(Small(lambda: ULSAM(C, 4)))
    assert len(program.blocks) == 1
    assert find_gates(program) == ()


class Several(nn.Module):
    """Two gates in one module, and one in another, in a network whose batch is free."""

    def __init__(self) -> None:
        super().__init__()
        self.se = GATES["se"]()

    def forward(self, x: Tensor) -> Tensor:
        x = x * x.mean((2, 3), keepdim=True).sigmoid()
        x = torch.relu(self.se(x) + 1)
        return x * x.amax(1, keepdim=True).sigmoid()


def test_gates_are_named_by_module_and_numbered() -> None:
    program = fused(Small(Several), batch=None)
    assert [gate.path for gate in find_gates(program)] == ["attention", "attention.se", "attention#2"]
    assert [gate.path for gate in watched_gates(program, ["attention.se"])] == ["attention.se"]
    assert len(watched_gates(program, ["attention"])) == 3
    assert watched_gates(program, ["none"]) == ()
    assert [gate.path for gate in named_gates(program, ["attention#2", "attention"])] == ["attention#2", "attention"]


def test_a_module_without_a_gate_is_watched_as_a_whole() -> None:
    (gate,) = watched_gates(fused(small("plain")), ["attention"])
    assert (gate.path, gate.form, gate.cores) == ("attention", GateForm.MODULE, ())
    assert gate.source.name == "relu"


def test_a_module_that_is_not_there_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(UsageError, match="no module 'atention' to watch") as caught:
        watched_gates(fused(small("se")), ["atention"])
    assert "attention" in str(caught.value)


def test_gates_are_the_same_in_another_process() -> None:
    """Targets that are built elsewhere get the program by torch's own file format."""
    program = fused(Small(Several))
    written = io.BytesIO()
    torch.export.save(program.exported, written)
    written.seek(0)
    again = Program(torch.export.load(written), program.inputs, program.outputs)
    assert [(g.path, g.form, g.result.name) for g in find_gates(again)] == [
        (g.path, g.form, g.result.name) for g in find_gates(program)
    ]
