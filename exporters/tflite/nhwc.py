"""Wraps a captured program in NHWC inputs and outputs, addressed by name, for litert-torch to convert."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from ulsam_deploy.device.types import TensorSpec


class NhwcIO(nn.Module):
    """Transposes inputs and outputs only; the converter's layout pass moves these inwards until they cancel."""

    def __init__(self, wrapped: Callable[..., object], inputs: tuple[TensorSpec, ...], outputs: tuple[TensorSpec, ...]):
        super().__init__()
        self.wrapped, self.inputs, self.outputs = wrapped, inputs, outputs
        self.training = False  # an exported module has no eval(); the converter warns when this is True

    def forward(self, **tensors: Tensor) -> dict[str, Tensor]:
        """Run on inputs by name and return outputs by name, both in the artifact's layout."""
        arguments = [
            tensors[spec.name].permute(0, 3, 1, 2).contiguous() if spec.layout == "NHWC" else tensors[spec.name]
            for spec in self.inputs
        ]
        produced = self.wrapped(*arguments)
        flat = produced if isinstance(produced, (tuple, list)) else (produced,)
        return {
            spec.name: value.permute(0, 2, 3, 1) if spec.layout == "NHWC" else value
            for spec, value in zip(self.outputs, flat)
        }


def example(spec: TensorSpec) -> Tensor:
    """Zeros of the artifact's own shape and dtype; ``spec.shape`` (in PyTorch's order) must have no dynamic axis."""
    shape = [size or 1 for size in spec.shape]
    zeros = torch.zeros(shape, dtype=getattr(torch, spec.dtype))
    return zeros.permute(0, 2, 3, 1).contiguous() if spec.layout == "NHWC" else zeros
