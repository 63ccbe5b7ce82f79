"""Changes of a network's weights and layers, made in place; each returns where, or ``None`` where it has no place."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from ulsam_deploy.models.mobilenet_v2 import InvertedResidual
from ulsam_deploy.models.ulsam import ULSAM


def put(model: nn.Module, path: str, module: nn.Module) -> None:
    """Put ``module`` in the place at ``path``."""
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
        put(model, path, nn.ReLU())
    return found[0][0] if found else None


def _one_relu6(model: nn.Module) -> str | None:
    found = _all(model, nn.ReLU6)
    if found:
        put(model, found[0][0], nn.Hardtanh(0, 5.9))
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
            put(model, path, nn.Sequential(nn.ZeroPad2d((0, 1, 0, 1)), conv))
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
    put(model, path, _Clipped(conv, 3e4))
    return path


def _half_rounding(model: nn.Module) -> str:
    """One layer's result in float16 though float32 was asked for."""
    path, conv = _convolutions(model)[len(_convolutions(model)) // 2]
    put(model, path, _Clipped(conv, 1.0))
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
