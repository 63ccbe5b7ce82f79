"""What goes wrong in exports: each fault is a change of a copy of the network, with the place where it was made.

Faults of the attention are made in one block, by :class:`Wrong`, which computes ULSAM step by step and takes one step
otherwise. The others change weights, layers, inputs or outputs. Every fault here was met in an exporter, a converter,
a hand-written port or a build script, or is the smallest case of one that was.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ulsam_deploy.models.ulsam import ULSAM, SubSpace

from .changes import LAYERS, WEIGHTS, put
from .subjects import Subject

#: Faults of one block: what is wrong, by the key that :class:`Wrong` knows.
ATTENTION = {
    "removed": "attention removed",
    "subspace": "attention of one subspace removed",
    "uniform": "attention uniform",
    "steps": "attention rounded to 1/256",
    "half gain": "1 + a rounded to float16",
    "half": "attention halved",
    "stronger": "attention 2 % too strong",
    "axis": "softmax over the channel axis",
    "rows": "softmax over rows only",
    "batch softmax": "softmax over the whole batch",
    "transposed": "map transposed",
    "flipped": "map mirrored",
    "shifted": "map shifted by one column",
    "order": "subspaces in reverse order",
    "interleaved": "channels assigned to subspaces in turn",
    "no score relu": "ReLU before the softmax missing",
    "no gate relu": "ReLU of the gate missing",
    "no pool": "pool missing",
    "pool of input": "pool of the input",
    "average": "average pool",
    "end padding": "pool padded at one end only",
    "pool 5": "pool 5 x 5",
    "no residual": "residual of the attention missing",
    "no bias": "score bias dropped",
    "bfloat": "scores rounded to bfloat16",
    "temperature": "softmax at temperature 1.05",
    "unshifted": "all maps computed from the first subspace's scores",
}


@dataclass(frozen=True)
class Fault:
    """``model`` is the faulty copy; ``place`` the module path where the fault is, empty where there is none.

    ``attention`` says that ``place`` is a block whose attention is wrong.
    """

    name: str
    model: nn.Module
    place: str = ""
    attention: bool = False


class Wrong(nn.Module):
    """A ULSAM block that takes one step wrongly."""

    def __init__(self, block: ULSAM, fault: str) -> None:
        super().__init__()
        self.subspaces, self.fault = block.subspaces, fault

    def forward(self, x: Tensor) -> Tensor:
        """``[N, C, H, W] -> [N, C, H, W]``, nearly ULSAM."""
        if self.fault == "removed":
            return x
        g = len(self.subspaces)
        owners = torch.arange(x.shape[1]) // (x.shape[1] // g)
        if self.fault == "interleaved":
            owners = torch.arange(x.shape[1]) % g
        parts = [x[:, k * (x.shape[1] // g) : (k + 1) * (x.shape[1] // g)] for k in range(g)]
        scores = [self.scores(subspace, part) for subspace, part in zip(self.subspaces, parts)]
        if self.fault == "unshifted":
            scores = scores[:1] * g
        maps = self.misplaced(self.normalised(torch.cat(scores, 1)))
        gain = maps[:, owners] if self.fault == "no residual" else 1 + maps[:, owners]
        if self.fault == "half gain":
            gain = gain.half().float()
        return x * gain

    def scores(self, subspace: SubSpace, x: Tensor) -> Tensor:
        """One score map ``[N, 1, H, W]``."""
        fault = self.fault
        gate = subspace.bn_dws(subspace.conv_dws(x))
        gate = gate if fault == "no gate relu" else F.relu(gate)
        pools: dict[str, Callable[[Tensor], Tensor]] = {
            "no pool": lambda t: t,
            "average": lambda t: F.avg_pool2d(t, 3, 1, 1),
            "pool 5": lambda t: F.max_pool2d(t, 5, 1, 2),
            "pool of input": lambda _: F.max_pool2d(x, 3, 1, 1),
            "end padding": lambda t: F.max_pool2d(F.pad(t, (0, 2, 0, 2)), 3, 1),
        }
        pooled = pools.get(fault, lambda t: F.max_pool2d(t, 3, 1, 1))(gate)
        raw = subspace.conv_point(pooled)
        if fault == "no bias" and subspace.conv_point.bias is not None:
            raw = raw - subspace.bn_point(torch.zeros_like(raw)) / _slope(subspace.bn_point)
        score = subspace.bn_point(raw)
        return score if fault == "no score relu" else F.relu(score)

    def normalised(self, scores: Tensor) -> Tensor:
        """The maps ``[N, g, H, W]``."""
        _, g, h, w = scores.shape
        if self.fault == "bfloat":
            scores = scores.bfloat16().float()
        if self.fault == "temperature":
            scores = scores / 1.05
        if self.fault == "axis":
            return torch.softmax(scores, 1)
        if self.fault == "rows":
            return torch.softmax(scores, 3)
        if self.fault == "batch softmax":
            flat = torch.softmax(scores.movedim(1, 0).reshape(g, -1), 1)
            return flat.reshape(g, -1, h, w).movedim(0, 1)
        maps = torch.softmax(scores.reshape(-1, g, h * w), 2).reshape(-1, g, h, w)
        return self.weakened(maps)

    def weakened(self, maps: Tensor) -> Tensor:
        """Maps with other values at the same places."""
        factors = {"half": 0.5, "stronger": 1.02}
        if self.fault in factors:
            return maps * factors[self.fault]
        if self.fault == "uniform":
            return torch.ones_like(maps) / (maps.shape[2] * maps.shape[3])
        if self.fault == "steps":
            return torch.round(maps * 256) / 256
        if self.fault == "subspace":
            return torch.cat([maps[:, :1] * 0, maps[:, 1:]], 1)
        return maps

    def misplaced(self, maps: Tensor) -> Tensor:
        """Maps with the same values at other places."""
        _, g, h, w = maps.shape
        if self.fault == "transposed":
            return maps.transpose(2, 3).reshape(-1, g, h, w)
        moves: dict[str, Callable[[Tensor], Tensor]] = {
            "flipped": lambda m: m.flip(3),
            "shifted": lambda m: torch.cat([m[..., -1:], m[..., :-1]], 3),
            "order": lambda m: m.flip(1),
        }
        return moves.get(self.fault, lambda m: m)(maps)


def _slope(norm: nn.BatchNorm2d) -> Tensor:
    return (norm.weight * (norm.running_var + norm.eps).rsqrt())[:, None, None]


def attention_faults(subject: Subject, kinds: tuple[str, ...] = tuple(ATTENTION)) -> Iterator[Fault]:
    """Each kind in one block; the blocks of the network take turns."""
    for number, kind in enumerate(kinds):
        path = subject.blocks[number % len(subject.blocks)]
        yield attention_fault(subject, kind, path)


def attention_fault(subject: Subject, kind: str, path: str) -> Fault:
    """``kind`` in the block at ``path``."""
    model = copy.deepcopy(subject.model)
    put(model, path, Wrong(model.get_submodule(path), kind))
    return Fault(ATTENTION[kind], model, path, attention=True)


def other_faults(subject: Subject) -> Iterator[Fault]:
    """Faults of weights, layers, inputs and outputs, where the network has what they need."""
    for name, change in {**WEIGHTS, **LAYERS}.items():
        model = copy.deepcopy(subject.model)
        place = change(model)
        if place is not None:
            yield Fault(name, model.eval(), place)
    for name, change_input in INPUTS.items():
        if name not in ONLY_COLOUR or subject.shape[0] == 3:
            yield Fault(name, _Around(copy.deepcopy(subject.model), before=change_input))
    for name, change_output in OUTPUTS.items():
        yield Fault(name, _Around(copy.deepcopy(subject.model), after=change_output))


class _Around(nn.Module):
    """A network with a wrong step before or after it."""

    def __init__(
        self, model: nn.Module, before: Callable[[Tensor], Tensor] | None = None,
        after: Callable[[Tensor], Tensor] | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        self.model, self.before, self.after = model, before, after

    def forward(self, image: Tensor) -> Tensor | tuple[Tensor, ...]:
        """As the network's own."""
        made = self.model(self.before(image) if self.before else image)
        if self.after is None:
            return made
        return tuple(map(self.after, made)) if isinstance(made, tuple) else self.after(made)


INPUTS: dict[str, Callable[[Tensor], Tensor]] = {
    "NHWC fed as NCHW": lambda x: x.permute(0, 2, 3, 1).reshape(x.shape),
    "red and blue exchanged": lambda x: x.flip(1),
    "input scaled by 1.01": lambda x: 1.01 * x,
    "input clipped to -4 .. 4": lambda x: x.clamp(-4, 4),
    "input rounded to 1/64": lambda x: torch.round(64 * x) / 64,
    "image mirrored": lambda x: x.flip(3),
}
ONLY_COLOUR = {"NHWC fed as NCHW", "red and blue exchanged"}
OUTPUTS: dict[str, Callable[[Tensor], Tensor]] = {
    "batch baked in: the first image's result for all": lambda y: y[:1].expand(y.shape),
    "softmax added to the outputs": lambda y: torch.softmax(y, 1),
    "outputs in another order": lambda y: y.flip(1),
    "outputs rounded to float16": lambda y: y.half().float(),
}
