"""The ONNX operators that round to integers and back, implemented in torch."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from ulsam_deploy.device.arrays import Array
from ulsam_deploy.load.onnx.errors import NotReadError
from ulsam_deploy.load.onnx.operators.values import Attributes, Meaning, tensor

_RANGES: Mapping[str, tuple[int, int, torch.dtype]] = {
    "uint8": (0, 255, torch.uint8),
    "int8": (-128, 127, torch.int8),
    "uint16": (0, 65535, torch.int32),
    "int16": (-32768, 32767, torch.int16),
}


def _along(a: Attributes, part: Tensor, x: Tensor) -> Tensor:
    """A factor or zero point for each channel or block of ``x``, in its shape."""
    if part.numel() == 1:
        return part.reshape(())
    axis = a.get("axis", 1) % x.ndim
    if part.ndim == 1:
        return part.reshape([-1 if i == axis else 1 for i in range(x.ndim)])
    block = a.get("block_size", 0) or -(-x.shape[axis] // part.shape[axis])
    return part.repeat_interleave(block, axis).narrow(axis, 0, x.shape[axis])


def _kind(a: Attributes, zero: Tensor | Array | None) -> tuple[int, int, torch.dtype]:
    import onnx

    name = "uint8"
    if zero is not None:
        name = str(zero.dtype).removeprefix("torch.") if isinstance(zero, Tensor) else a["kinds"][2]
    if a.get("output_dtype"):
        name = onnx.TensorProto.DataType.Name(a["output_dtype"]).lower()
    if name not in _RANGES:
        raise NotReadError(f"a rounding to {name}")
    return _RANGES[name]


def _quantize(a: Attributes, x: Tensor, scale: Tensor | Array, zero: Tensor | Array | None = None) -> Tensor:
    least, most, dtype = _kind(a, zero)
    rounded = torch.round(x / _along(a, tensor(scale, x.dtype), x))
    if zero is not None:
        rounded = rounded + _along(a, tensor(zero), x)
    return torch.clamp(rounded, least, most).to(dtype)


def _dequantize(a: Attributes, x: Tensor | Array, scale: Tensor | Array, zero: Tensor | Array | None = None) -> Tensor:
    whole, factor = tensor(x), tensor(scale)
    steps = whole.to(torch.float32)
    if zero is not None:
        steps = steps - _along(a, tensor(zero), whole)
    return steps * _along(a, factor, whole)


OPERATORS: Mapping[str, Meaning] = {"QuantizeLinear": _quantize, "DequantizeLinear": _dequantize}
