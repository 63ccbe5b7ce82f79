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

from ulsam_deploy.models.mobilenet_v2 import InvertedResidual
from ulsam_deploy.models.ulsam import ULSAM, SubSpace

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
    _put(model, path, Wrong(model.get_submodule(path), kind))
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


def _put(model: nn.Module, path: str, module: nn.Module) -> None:
    parent, _, name = path.rpartition(".")
    setattr(model.get_submodule(parent), name, module)


def _all(model: nn.Module, kind: type[nn.Module]) -> list[tuple[str, nn.Module]]:
    """Modules of ``kind`` outside the attention, by path, in order."""
    found = [(path, module) for path, module in model.named_modules() if isinstance(module, kind)]
    return [(path, module) for path, module in found if ".subspaces." not in path]


def _convolutions(model: nn.Module) -> list[tuple[str, nn.Conv2d]]:
    return [(path, conv) for path, conv in _all(model, nn.Conv2d)]


@torch.no_grad()
def _one_weight(model: nn.Module) -> str:
    """The weight of median size in the widest 1x1 convolution, up by 1 %."""
    wide = [(path, conv) for path, conv in _convolutions(model) if conv.kernel_size == (1, 1)]
    path, conv = max(wide, key=lambda pair: pair[1].weight.numel())
    flat = conv.weight.data.view(-1)
    flat[flat.abs().argsort()[flat.numel() // 2]] *= 1.01
    return path


@torch.no_grad()
def _one_depthwise_weight(model: nn.Module) -> str:
    """The largest weight of one channel of the first 3x3 convolution, up by 1 %."""
    path, conv = next((path, conv) for path, conv in _convolutions(model) if conv.kernel_size == (3, 3))
    flat = conv.weight.data.view(-1)
    flat[flat.abs().argmax()] *= 1.01
    return path


@torch.no_grad()
def _one_classifier_weight(model: nn.Module) -> str:
    path, linear = _all(model, nn.Linear)[-1]
    flat = linear.weight.data.view(-1)
    flat[flat.abs().argsort()[flat.numel() // 2]] *= 1.01
    return path


@torch.no_grad()
def _score_weights(model: nn.Module) -> str:
    """The score weights of one subspace of the last block, up by 1 %."""
    path, block = [(path, module) for path, module in model.named_modules() if isinstance(module, ULSAM)][-1]
    block.subspaces[0].conv_point.weight.data.mul_(1.01)
    return path


@torch.no_grad()
def _classifier_bias(model: nn.Module) -> str:
    path, linear = _all(model, nn.Linear)[-1]
    nn.init.normal_(linear.bias, 0.0, 0.05)
    return path


def _norms(model: nn.Module) -> list[tuple[str, nn.BatchNorm2d]]:
    return [(path, norm) for path, norm in _all(model, nn.BatchNorm2d)]


def _eps(model: nn.Module) -> str:
    for _, norm in _norms(model):
        norm.eps = 1e-3
    return _norms(model)[0][0]


def _one_eps(model: nn.Module) -> str:
    path, norm = _norms(model)[len(_norms(model)) // 2]
    norm.eps = 1e-3
    return path


@torch.no_grad()
def _stale_statistics(model: nn.Module) -> str:
    """One batch norm's statistics as they were ten batches of momentum 0.01 ago."""
    path, norm = _norms(model)[len(_norms(model)) // 2]
    norm.running_var.mul_(1.02)
    return path


@torch.no_grad()
def _norm_bias(model: nn.Module) -> str | None:
    for path, norm in _norms(model)[1:]:
        if norm.running_mean is not None and float(norm.running_mean.abs().max()) > 0:
            norm.running_mean.zero_()
            return path
    return None


@torch.no_grad()
def _stale(model: nn.Module) -> str:
    """The step of one last epoch at a small rate is missing: every weight off by about 1e-4 of itself."""
    generator = torch.Generator().manual_seed(1)
    for parameter in model.parameters():
        parameter.mul_(1 + 1e-4 * torch.randn(parameter.shape, generator=generator))
    return ""


@torch.no_grad()
def _bfloat_weights(model: nn.Module) -> str:
    """Weights went through bfloat16 on their way."""
    for parameter in model.parameters():
        parameter.copy_(parameter.bfloat16().float())
    return ""


@torch.no_grad()
def _int8_layer(model: nn.Module) -> str:
    """One convolution's weights rounded to 8 bits a channel though float32 was asked for."""
    path, conv = _convolutions(model)[len(_convolutions(model)) // 2]
    step = conv.weight.abs().amax((1, 2, 3), keepdim=True) / 127
    conv.weight.copy_(torch.round(conv.weight / step) * step)
    return path


@torch.no_grad()
def _channels_swapped(model: nn.Module) -> str:
    path, conv = _convolutions(model)[len(_convolutions(model)) // 2]
    conv.weight[[0, 1]] = conv.weight[[1, 0]].clone()
    return path


@torch.no_grad()
def _kernel_transposed(model: nn.Module) -> str:
    path, conv = next((path, conv) for path, conv in _convolutions(model)[1:] if conv.kernel_size == (3, 3))
    conv.weight.copy_(conv.weight.transpose(2, 3).clone())
    return path


def _relu6_as_relu(model: nn.Module) -> str | None:
    found = _all(model, nn.ReLU6)
    for path, _ in found:
        _put(model, path, nn.ReLU())
    return found[0][0] if found else None


def _one_relu6(model: nn.Module) -> str | None:
    found = _all(model, nn.ReLU6)
    if found:
        _put(model, found[0][0], nn.Hardtanh(0, 5.9))
    return found[0][0] if found else None


def _no_residual(model: nn.Module) -> str | None:
    for path, module in model.named_modules():
        if isinstance(module, InvertedResidual) and module.residual:
            module.residual = False
            return path
    return None


def _same_padding(model: nn.Module) -> str | None:
    """TensorFlow's SAME at stride 2: one row and column more at the end, and none at the start."""
    for path, conv in _convolutions(model):
        if conv.stride == (2, 2) and conv.padding == (1, 1):
            conv.padding = (0, 0)
            _put(model, path, nn.Sequential(nn.ZeroPad2d((0, 1, 0, 1)), conv))
            return path
    return None


class _Clipped(nn.Module):
    """A layer whose result went through float16, where large values overflow."""

    def __init__(self, layer: nn.Module, scale: float) -> None:
        super().__init__()
        self.layer, self.scale = layer, scale

    def forward(self, x: Tensor) -> Tensor:
        return (self.layer(x) * self.scale).half().float() / self.scale


def _half_overflow(model: nn.Module) -> str:
    """A layer with a large scale, undone by the next, in float16: the largest values become infinite."""
    path, conv = _convolutions(model)[len(_convolutions(model)) // 2]
    _put(model, path, _Clipped(conv, 3e4))
    return path


def _half_rounding(model: nn.Module) -> str:
    """One layer's result in float16 though float32 was asked for."""
    path, conv = _convolutions(model)[len(_convolutions(model)) // 2]
    _put(model, path, _Clipped(conv, 1.0))
    return path


WEIGHTS: dict[str, Callable[[nn.Module], str | None]] = {
    "one weight of the widest layer off by 1 %": _one_weight,
    "one weight of the first layer off by 1 %": _one_depthwise_weight,
    "one weight of the classifier off by 1 %": _one_classifier_weight,
    "score weights of one subspace off by 1 %": _score_weights,
    "bias of the classifier lost": _classifier_bias,
    "batch norm eps 1e-3 everywhere": _eps,
    "batch norm eps 1e-3 in one layer": _one_eps,
    "batch norm statistics stale in one layer": _stale_statistics,
    "batch norm mean dropped": _norm_bias,
    "stale checkpoint": _stale,
    "weights through bfloat16": _bfloat_weights,
    "one layer's weights in 8 bits": _int8_layer,
    "two channels swapped": _channels_swapped,
    "kernel transposed": _kernel_transposed,
}
LAYERS: dict[str, Callable[[nn.Module], str | None]] = {
    "ReLU6 as ReLU": _relu6_as_relu,
    "ReLU6 clipped at 5.9 in one layer": _one_relu6,
    "residual missing": _no_residual,
    "padding of another framework": _same_padding,
    "float16 overflow in one layer": _half_overflow,
    "one layer in float16": _half_rounding,
}
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
