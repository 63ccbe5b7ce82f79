"""A block costs the same whatever file it is in: the checkpoint, a plain export, or our own in any of its forms."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from ulsam_deploy.exporters.lowerings import FORMS
from ulsam_deploy.exporting.options import ExportOptions
from ulsam_deploy.graph import capture, fuse_attention
from ulsam_deploy.load import cost, source
from ulsam_deploy.models.ulsam import ULSAM

pytest.importorskip("onnx")

CHANNELS, SUBSPACES, SIZE = 8, 4, 6
#: Of these the gain comes out of a gather of ``1 + a``, which isn't read back yet.
UNREAD = ("take",)
NAMES = [name for name in FORMS["onnx"] if name not in UNREAD]


def block() -> ULSAM:
    torch.manual_seed(0)
    made = ULSAM(CHANNELS, SUBSPACES).eval()
    for parameter in made.parameters():
        nn.init.normal_(parameter)
    return made


class Lowered(nn.Module):
    """One block in every form, one behind the other, with weights as an exporter has them."""

    def __init__(self) -> None:
        super().__init__()
        fused = fuse_attention(capture(block(), ((CHANNELS, SIZE, SIZE),)))
        for name, weights in fused.exported.named_buffers():
            if name.startswith("ulsam_0_"):
                self.register_buffer(name.removeprefix("ulsam_0_"), weights)

    def forward(self, x: Tensor) -> Tensor:
        weights = (self.gate_scale, self.gate_bias, self.score_weight, self.score_bias)
        for name in NAMES:
            x = FORMS["onnx"][name](x, *weights, SUBSPACES)
        return x


def counted(model: nn.Module, path: Path) -> cost.Census:
    torch.onnx.export(
        model, (torch.randn(1, CHANNELS, SIZE, SIZE),), path, dynamo=True, opset_version=18, verbose=False
    )
    return cost.count(source.load(ExportOptions(path)))


@pytest.mark.filterwarnings("ignore")
def test_a_plain_export_counts_as_the_module(tmp_path: Path) -> None:
    module = nn.Sequential(block())
    network = source.Source(module, "x", {}, ((CHANNELS, SIZE, SIZE),), 1, ())
    (trained,) = cost.count(network).costs
    assert trained == cost.ModuleCost(5 * CHANNELS + 3 * SUBSPACES, 2 * CHANNELS * SIZE * SIZE)
    assert counted(module, tmp_path / "plain.onnx").costs == (trained,)


@pytest.mark.filterwarnings("ignore")
def test_every_form_of_ours_counts_as_the_module(tmp_path: Path) -> None:
    found = counted(Lowered().eval(), tmp_path / "ours.onnx")
    assert found.refusals == ()
    assert len(found.blocks) == len(NAMES)
    assert set(found.costs) == {cost.ModuleCost(5 * CHANNELS + 3 * SUBSPACES, 2 * CHANNELS * SIZE * SIZE)}
    assert {dataclasses.astuple(one)[1:] for one in found.blocks} == {(CHANNELS, SUBSPACES, SIZE, SIZE)}


def test_a_dense_convolution_that_mixes_subspaces_is_none() -> None:
    from ulsam_deploy.graph.matching.branches import _grouped

    weight = torch.zeros(2, 4, 1, 1)
    weight[0, :2], weight[1, 2:] = 1.0, 2.0
    apart, groups = _grouped(weight, 1)
    assert groups == 2
    assert apart.flatten().tolist() == [1, 1, 2, 2]
    weight[0, 3] = 1e-6
    assert _grouped(weight, 1)[1] == 1
