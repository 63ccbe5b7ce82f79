"""Every network of the paper's table through the vendor's parser: fp32 and fp16, static and dynamic batch, no GPU.

At 96 x 96, where the operators are those of 224 x 224. CI has each network in one kind of batch; both, and the full
size, are exhaustive tests.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest

from ulsam_deploy.device import plugins
from ulsam_deploy.exporters.tensorrt import exporter
from ulsam_deploy.exporters.tensorrt.evidence import inventory
from ulsam_deploy.exporters.tensorrt.rounding import STORED
from ulsam_deploy.graph import Program, capture, fuse_attention, lower
from ulsam_deploy.graph.interfaces import ExportRequest
from ulsam_deploy.models.paper import named_configurations
from ulsam_deploy.runtimes.tensorrt import builder

from .trt_networks import parsed, rtx

ROWS = {row.name: row for row in named_configurations()}
QUICK = ("mobilenet_v1_w050_ulsam_sub_11", "mobilenet_v2_ulsam_sub_13_16")


def marks(position: int, batch: int | None, quick: bool) -> list[pytest.MarkDecorator]:
    """One network is in the fast suite; each is in CI in one kind of batch, in turns; all else is exhaustive."""
    if quick:
        return []
    return [pytest.mark.slow] if batch == (1, None)[position % 2] else [pytest.mark.slow, pytest.mark.exhaustive]


CASES = [
    pytest.param(name, 96, batch, marks=marks(position, batch, (name, batch) == (QUICK[0], 1)))
    for batch in (1, None)
    for position, name in enumerate(ROWS)
] + [pytest.param(name, 224, 1, marks=[pytest.mark.slow, pytest.mark.exhaustive]) for name in ROWS]


@cache
def network(name: str) -> tuple[Any, int]:
    import torch

    family = plugins.load(plugins.MODELS, ROWS[name].network)
    torch.manual_seed(0)
    model = family.build(ROWS[name].config)
    norms = [module for module in model.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    for norm in norms:  # as initialised, the signal of a deep network fades to nothing
        norm.momentum = None
    with torch.no_grad():
        model.train()(torch.randn(4, 3, 96, 96))
    return model.eval(), family.blocks(ROWS[name].config) or 0


def fused(name: str, size: int, batch: int | None) -> Program:
    return fuse_attention(capture(network(name)[0], [(3, size, size)], batch))


@pytest.mark.parametrize(("name", "size", "batch"), CASES)
def test_network_is_parsed_with_one_softmax_a_block_and_compiled_in_both_precisions(
    name: Any, size: Any, batch: Any
) -> None:
    trt, program, blocks = rtx(), fused(name, size, batch), network(name)[1]
    assert len(program.blocks) == blocks
    image = np.random.default_rng(0).normal(size=(batch or 2, 3, size, size)).astype(np.float32)
    results = {}
    for precision in ("fp32", "fp16"):
        request = ExportRequest(precision)
        lowered = lower(program, exporter.EXPORTER.lowering(request))
        content = exporter._model(lowered, request)[0].SerializeToString()
        read = parsed(content)
        assert len(read.softmaxes) == blocks
        results[precision] = read.run({program.inputs[0].name: image}, STORED)["logits"]
        recipe = exporter._recipe(builder, program, request, content)
        built = builder.build(trt, content, recipe, capability="SM86")
        assert built.parsed.layers.get("SOFTMAX", 0) == blocks
        found = inventory(built.listing)
        kind = {"fp32": "Float", "fp16": "Half"}[precision]
        assert found.types[kind] > 0.9 * sum(found.types.values()) - 4  # ends, and counts of a dynamic batch
    whole = np.abs(results["fp32"]).max()
    assert 0 < np.abs(results["fp32"] - results["fp16"]).max() < 0.05 * whole
