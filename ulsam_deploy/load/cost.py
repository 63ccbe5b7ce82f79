"""Counts parameters and MACs of every ULSAM block, of the whole network, and of its backbone without ULSAM.

MACs are those of convolutions and linear layers as torch's own ``FlopCounterMode`` counts them (two FLOPs for each
MAC), for one image. An ONNX file has folded its batch norms, and may hold a block in a form that suits an engine,
without its original module: such blocks are counted as the module that was trained.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ulsam_deploy.device import plugins
from ulsam_deploy.device.types import Block, Refusal
from ulsam_deploy.load.source import Source

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class ModuleCost:
    """Parameters (trained numbers), and MACs for a single image."""

    parameters: int
    macs: int


@dataclass(frozen=True)
class FoundGate:
    """Attention that is watched and not fused: its module, and what it weighs (``channels``, ``places``, ...)."""

    path: str
    form: str


@dataclass(frozen=True)
class Census:
    """``blocks`` and ``costs`` run in parallel; ``backbone`` is ``None`` where the network without ULSAM is unknown.

    ``gates``: attention of other kinds.
    """

    network: str
    inputs: tuple[tuple[int, ...], ...]
    blocks: tuple[Block, ...]
    costs: tuple[ModuleCost, ...]
    refusals: tuple[Refusal, ...]
    total: ModuleCost
    backbone: ModuleCost | None
    gates: tuple[FoundGate, ...]


def count(source: Source) -> Census:
    """Capture the network to find its blocks, and count it by module path."""
    from ulsam_deploy.graph import capture, fuse_attention
    from ulsam_deploy.graph.watching.finding import find_gates

    fused = fuse_attention(capture(source.model, source.input_shapes))
    macs = _macs(source.model, source.input_shapes)
    converted = source.reference is not None
    costs = _as_trained(source, fused.blocks) if converted else _by_module(source, fused.blocks, macs)
    return Census(
        network=source.network,
        inputs=source.input_shapes,
        blocks=fused.blocks,
        costs=costs,
        refusals=fused.refusals,
        total=ModuleCost(source.parameters, macs[""]),
        backbone=_backbone(source),
        gates=tuple(FoundGate(gate.path, gate.form.value) for gate in find_gates(fused)),
    )


def _by_module(source: Source, blocks: Sequence[Block], macs: Mapping[str, int]) -> tuple[ModuleCost, ...]:
    """Parameters and MACs of the module of each block."""
    modules = dict(source.model.named_modules())
    paths = [_path(block) for block in blocks]
    positions = [block.height * block.width for block in blocks]
    costs = []
    for number, path in enumerate(paths):
        # A module that is used twice has its parameters once, and MACs in proportion to the positions of each use.
        everywhere = sum(size for other, size in zip(paths, positions) if other == path)
        parameters = _parameters(modules[path]) if path in modules and path not in paths[:number] else 0
        costs.append(ModuleCost(parameters, macs.get(path, 0) * positions[number] // max(everywhere, 1)))
    return tuple(costs)


def _as_trained(source: Source, blocks: Sequence[Block]) -> tuple[ModuleCost, ...]:
    """Parameters and MACs of each block in the paper's form, by its geometry.

    Each subspace has a depthwise and a pointwise 1x1 convolution with biases, each followed by a batch norm.
    """
    named = {name for name, _ in source.model.named_modules()}
    paths = [_path(block) for block in blocks]
    costs = []
    for number, (path, block) in enumerate(zip(paths, blocks)):
        again = path in named and path in paths[:number]  # if the file has lost its modules, none is used twice
        parameters = 0 if again else 5 * block.channels + 3 * block.subspaces
        costs.append(ModuleCost(parameters, 2 * block.channels * block.height * block.width))
    return tuple(costs)


def _path(block: Block) -> str:
    return block.path.split("#")[0]  # "#2": the second use of the same module


def _backbone(source: Source) -> ModuleCost | None:
    if source.network not in plugins.registered(plugins.MODELS):
        return None
    network = plugins.load(plugins.MODELS, source.network)
    config = network.backbone(source.config)
    if config is None:
        return None
    model = network.build(config)
    return ModuleCost(_parameters(model), _macs(model, source.input_shapes)[""])


def _parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _macs(model: nn.Module, shapes: tuple[tuple[int, ...], ...]) -> Mapping[str, int]:
    """MACs by module path; the whole network is ``""``."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        model(*(torch.zeros(1, *shape) for shape in shapes))
    root = type(model).__name__
    counts = {name: sum(flops.values()) // 2 for name, flops in counter.get_flop_counts().items()}
    return {"": counts.get("Global", 0)} | {name.removeprefix(f"{root}."): n for name, n in counts.items()}
