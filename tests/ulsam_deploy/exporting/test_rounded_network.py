"""The network that targets get in int8: rounded once, kept modules as they are, and proven equal when it is lowered."""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
from torch import nn

from ulsam_deploy.device import plugins
from ulsam_deploy.device.types import Calibration
from ulsam_deploy.exporting.network import FusedNetwork
from ulsam_deploy.graph import Proof, capture, fuse_attention
from ulsam_deploy.graph.interfaces import ExportRequest
from ulsam_deploy.inputs.calibration import CalibrationSplit
from ulsam_deploy.models.ulsam import ULSAM


@cache
def network() -> FusedNetwork:
    torch.manual_seed(0)
    layers = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), ULSAM(8, 2), nn.Flatten(), nn.Linear(8 * 36, 4)).eval()
    program = fuse_attention(capture(layers, [(3, 8, 8)], 1))
    samples = np.random.default_rng(0).standard_normal((8, 3, 8, 8)).astype(np.float32)
    name = program.inputs[0].name
    return FusedNetwork(program, Proof(program), CalibrationSplit(Calibration({name: samples}, ""), {}))


def _changed(found: FusedNetwork) -> set[str]:
    before, after = network().program.exported.state_dict, found.program.exported.state_dict
    return {name.removeprefix("model.") for name in before if not torch.equal(before[name], after[name])}


def test_each_number_of_steps_and_each_choice_of_modules_is_made_once() -> None:
    found = network().rounded(127, ())
    assert _changed(found) == {"0.weight", "0.bias", "4.weight", "4.bias"}
    assert network().rounded(127, ()) is found
    assert _changed(network().rounded(127, ("4",))) == {"0.weight", "0.bias"}
    coarse = network().rounded(64, ()).program.exported.state_dict
    assert not torch.equal(coarse["model.0.weight"], found.program.exported.state_dict["model.0.weight"])


def test_what_is_lowered_is_proven_equal_to_the_rounded_network() -> None:
    found = network().rounded(127, ())
    lowered = found.lowered(plugins.load(plugins.EXPORTERS, "onnx"), ExportRequest("int8"))
    assert lowered.exported.state_dict["model.0.weight"].equal(found.program.exported.state_dict["model.0.weight"])
