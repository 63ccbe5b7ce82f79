"""The layers of a parsed TensorRT network in NumPy: one function for each layer type.

Every function takes an :class:`Operation` and returns the output in any float type; rounding to the declared type
happens in one place, in :mod:`.network`. float16 tensors are stored as float32. Layer attributes are TensorRT's; names
of enumerations are compared as text, so that TensorRT need not be imported.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ulsam_deploy.device.arrays import Array
from ulsam_deploy.device.errors import UnavailableError

from .rounding import Rounding, product, round_half


@dataclass(frozen=True)
class Operation:
    """A TensorRT layer (in its specific class), its inputs, and how to round sums."""

    layer: Any
    inputs: Sequence[Array]
    rounding: Rounding

    @property
    def chunk(self) -> int:
        """After how many products a sum is rounded; 0 for float32, which has no float16 accumulator."""
        return self.rounding.chunk if self.layer.get_output(0).dtype.name == "HALF" else 0


Meaning = Callable[[Operation], Array]


class UnknownLayerError(UnavailableError):
    """A layer, or a setting of one, that this interpreter does not support."""

    def __init__(self, what: str) -> None:
        super().__init__(f"the NumPy interpreter of parsed networks does not know {what}")


def axes_of(mask: int, rank: int) -> tuple[int, ...]:
    """The axes whose bits are set in TensorRT's ``mask``."""
    return tuple(axis for axis in range(rank) if mask >> axis & 1)


def convolution(op: Operation) -> Array:
    """2-D convolution, [N, C, H, W]: the sum over kernel positions of grouped matrix products."""
    if op.layer.padding_mode.name != "EXPLICIT_ROUND_DOWN" or len(tuple(op.layer.kernel_size_nd)) != 2:
        raise UnknownLayerError(f"convolution with padding mode {op.layer.padding_mode.name}")
    held, has_bias = weights(op.layer.kernel), len(op.inputs) > 2 or weights(op.layer.bias).size > 0
    kernel = op.inputs[1] if len(op.inputs) > 1 else held
    kernel = kernel.reshape(op.layer.num_output_maps, -1, *tuple(op.layer.kernel_size_nd)).astype(
        np.float32, copy=False
    )
    x = padded(op.layer, op.inputs[0].astype(np.float32, copy=False), 0.0)
    total = _taps(x, kernel, op.layer, op.chunk)
    if not has_bias:
        return total
    bias = op.inputs[2] if len(op.inputs) > 2 else weights(op.layer.bias)
    biased: Array = total + bias.astype(np.float32).reshape(1, -1, 1, 1)
    return biased


def _taps(x: Array, kernel: Array, layer: Any, chunk: int) -> Array:
    """Convolution of a padded ``x`` without bias, position by position of the kernel."""
    batch, channels = x.shape[:2]
    maps, depth, high, wide = kernel.shape
    stride, dilation, groups = tuple(layer.stride_nd), tuple(layer.dilation_nd), int(layer.num_groups)
    rows = (x.shape[2] - dilation[0] * (high - 1) - 1) // stride[0] + 1
    columns = (x.shape[3] - dilation[1] * (wide - 1) - 1) // stride[1] + 1
    total: Array | None = None
    for i, j in np.ndindex(high, wide):
        top, left = i * dilation[0], j * dilation[1]
        seen = x[:, :, top : top + stride[0] * rows : stride[0], left : left + stride[1] * columns : stride[1]]
        seen = seen[:, :, :rows, :columns]
        if depth == 1 and maps == channels:  # depthwise: one product for each kernel position
            term = seen * kernel[None, :, 0, i, j, None, None]
            total = term if total is None else total + term
            total = round_half(total) if chunk else total
            continue
        grouped = seen.reshape(batch, groups, depth, rows * columns)
        here = kernel[:, :, i, j].reshape(1, groups, maps // groups, depth)
        total = product(here, grouped, chunk, total)
    assert total is not None
    return total.reshape(batch, maps, rows, columns)


def padded(layer: Any, x: Array, value: float) -> Array:
    """``x`` with its last two axes padded as the layer says."""
    (top, left), (bottom, right) = tuple(layer.pre_padding), tuple(layer.post_padding)
    if not (top or left or bottom or right):
        return x
    return np.pad(x, ((0, 0), (0, 0), (top, bottom), (left, right)), constant_values=value)


def pooling(op: Operation) -> Array:
    """Maximum, or average without padding, over windows of the last two axes."""
    kind, (high, wide), stride = op.layer.type.name, tuple(op.layer.window_size_nd), tuple(op.layer.stride_nd)
    if op.layer.padding_mode.name != "EXPLICIT_ROUND_DOWN":
        raise UnknownLayerError(f"pooling with padding mode {op.layer.padding_mode.name}")
    if kind not in ("MAX", "AVERAGE"):
        raise UnknownLayerError(f"{kind} pooling")
    if kind == "AVERAGE" and any((*op.layer.pre_padding, *op.layer.post_padding)):
        raise UnknownLayerError("AVERAGE pooling with padding")
    x = padded(op.layer, op.inputs[0].astype(np.float32, copy=False), -np.inf)
    rows, columns = (x.shape[2] - high) // stride[0] + 1, (x.shape[3] - wide) // stride[1] + 1
    seen = [
        x[:, :, i : i + stride[0] * rows : stride[0], j : j + stride[1] * columns : stride[1]][:, :, :rows, :columns]
        for i, j in np.ndindex(high, wide)
    ]
    return np.asarray(np.maximum.reduce(seen) if kind == "MAX" else np.add.reduce(seen) / np.float32(high * wide))


def activation(op: Operation) -> Array:
    """ReLU, clip to [alpha, beta], sigmoid, tanh."""
    x, kind = op.inputs[0], op.layer.type.name
    if kind == "RELU":
        return np.maximum(x, 0)
    if kind == "CLIP":
        return np.clip(x, np.float32(op.layer.alpha), np.float32(op.layer.beta))
    if kind == "SIGMOID":
        with np.errstate(over="ignore"):
            return np.asarray(1 / (1 + np.exp(-x)))
    if kind == "TANH":
        return np.asarray(np.tanh(x))
    raise UnknownLayerError(f"activation {kind}")


def softmax(op: Operation) -> Array:
    """Softmax over the axes in the layer's mask, in float32."""
    x = op.inputs[0].astype(np.float32, copy=False)
    axes = axes_of(op.layer.axes, x.ndim)
    powers = np.exp(x - x.max(axes, keepdims=True))
    return np.asarray(powers / powers.sum(axes, keepdims=True))


ELEMENTWISE: dict[str, Callable[[Array, Array], Array]] = {
    "SUM": np.add,
    "PROD": np.multiply,
    "SUB": np.subtract,
    "DIV": np.divide,
    "MAX": np.maximum,
    "MIN": np.minimum,
    "POW": np.power,
}
REDUCE: dict[str, Callable[..., Array]] = {"AVG": np.mean, "SUM": np.sum, "MAX": np.max, "MIN": np.min}
UNARY: dict[str, Callable[[Array], Array]] = {"EXP": np.exp, "ABS": np.abs, "NEG": np.negative, "SQRT": np.sqrt}


def _known(table: dict[str, Callable[..., Array]], kind: str, what: str) -> Callable[..., Array]:
    if kind not in table:
        raise UnknownLayerError(f"{what} {kind}")
    return table[kind]


def elementwise(op: Operation) -> Array:
    """One of :data:`ELEMENTWISE`; axes of size one are broadcast."""
    return _known(ELEMENTWISE, op.layer.op.name, "elementwise operation")(op.inputs[0], op.inputs[1])


def reduce(op: Operation) -> Array:
    """One of :data:`REDUCE` over the axes of the mask, in float32."""
    operation = _known(REDUCE, op.layer.op.name, "reduction")
    return operation(op.inputs[0], axis=axes_of(op.layer.axes, op.inputs[0].ndim), keepdims=bool(op.layer.keep_dims))


def unary(op: Operation) -> Array:
    """One of :data:`UNARY`."""
    return _known(UNARY, op.layer.op.name, "unary operation")(op.inputs[0])


def matrix_multiply(op: Operation) -> Array:
    """``op0(a) @ op1(b)``, each taken as it is or transposed."""
    ops = (op.layer.op0.name, op.layer.op1.name)
    if not set(ops) <= {"NONE", "TRANSPOSE"}:
        raise UnknownLayerError(f"matrix product with operand as {' and '.join(ops)}")
    a, b = (
        np.swapaxes(x, -1, -2) if op == "TRANSPOSE" else x
        for x, op in zip((x.astype(np.float32, copy=False) for x in op.inputs), ops)
    )
    return product(a, b, op.chunk)


def shuffle(op: Operation) -> Array:
    """Transpose, reshape (0 copies an axis, -1 is inferred), transpose."""
    x = _transposed(op.inputs[0], op.layer.first_transpose)
    if len(op.inputs) > 1:
        dims: tuple[int, ...] | None = tuple(int(size) for size in op.inputs[1])
    else:
        dims = _reshape_dims(op.layer)
    if dims is not None:
        placeholder = op.layer.zero_is_placeholder
        x = x.reshape([x.shape[axis] if size == 0 and placeholder else size for axis, size in enumerate(dims)])
    return _transposed(x, op.layer.second_transpose)


def _reshape_dims(layer: Any) -> tuple[int, ...] | None:
    """The layer's reshape, or ``None`` if it has none; an empty one is a reshape to a scalar."""
    dims = layer.reshape_dims
    return None if dims is None else tuple(int(size) for size in dims)


def _transposed(x: Array, permutation: Any) -> Array:
    order = list(permutation)[: x.ndim]
    return x if order == list(range(x.ndim)) else x.transpose(order)


def concatenation(op: Operation) -> Array:
    """Inputs joined along the layer's axis."""
    return np.concatenate([np.atleast_1d(x) for x in op.inputs], op.layer.axis)


def constant(op: Operation) -> Array:
    """The layer's own weights."""
    return weights(op.layer.weights).reshape(tuple(op.layer.shape))


def quantize(op: Operation) -> Array:
    """``x / scale`` rounded to the nearest even integer in -128 .. 127."""
    x = op.inputs[0].astype(np.float32, copy=False)
    return np.clip(np.rint(x / _scale(op.layer, op.inputs)), -128, 127)


def dequantize(op: Operation) -> Array:
    """``x * scale``."""
    return np.asarray(op.inputs[0].astype(np.float32) * _scale(op.layer, op.inputs))


def _scale(layer: Any, inputs: Sequence[Array]) -> Array:
    scale = inputs[1].astype(np.float32)
    if scale.size == 1:
        return scale.reshape(())
    return scale.reshape([-1 if axis == layer.axis else 1 for axis in range(inputs[0].ndim)])


def weights(held: object) -> Array:
    """Weights of a layer as an array; TensorRT gives ``None`` or an empty array if there are none."""
    return np.zeros(0, np.float32) if held is None else np.asarray(held)


#: For each layer type, its Python class and the function that computes it.
LAYERS: dict[str, tuple[str, Meaning]] = {
    "ACTIVATION": ("IActivationLayer", activation),
    "CAST": ("ICastLayer", lambda op: op.inputs[0]),
    "CONCATENATION": ("IConcatenationLayer", concatenation),
    "CONSTANT": ("IConstantLayer", constant),
    "CONVOLUTION": ("IConvolutionLayer", convolution),
    "DEQUANTIZE": ("IDequantizeLayer", dequantize),
    "ELEMENTWISE": ("IElementWiseLayer", elementwise),
    "GATHER": ("IGatherLayer", lambda op: np.take(op.inputs[0], op.inputs[1], axis=op.layer.axis)),
    "IDENTITY": ("IIdentityLayer", lambda op: op.inputs[0]),
    "MATRIX_MULTIPLY": ("IMatrixMultiplyLayer", matrix_multiply),
    "POOLING": ("IPoolingLayer", pooling),
    "QUANTIZE": ("IQuantizeLayer", quantize),
    "REDUCE": ("IReduceLayer", reduce),
    "SHAPE": ("IShapeLayer", lambda op: np.array(op.inputs[0].shape, np.int64)),
    "SHUFFLE": ("IShuffleLayer", shuffle),
    "SOFTMAX": ("ISoftMaxLayer", softmax),
    "UNARY": ("IUnaryLayer", unary),
}
