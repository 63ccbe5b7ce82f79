"""Runs the ONNX model in float64 with onnx's own reference implementation, to check the import.

It is independent of our implementation of the operators. Only convolutions, pools and resizing are computed here, in
numpy, because the reference implementation needs minutes for an image of 224 x 224; a test compares the two.
"""

from __future__ import annotations

import itertools
import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from ulsam_deploy.device.arrays import Array
from ulsam_deploy.device.third_party import words_of
from ulsam_deploy.load.onnx import names

if TYPE_CHECKING:
    from onnx import ModelProto

    from ulsam_deploy.load.onnx.reading import Graph


class Reference:
    """``graph`` with every floating-point number as float64 (weights are first rounded to float32)."""

    def __init__(self, graph: Graph) -> None:
        from onnx.reference import ReferenceEvaluator

        self._inputs = [port.name for port in graph.inputs]
        self._outputs = names.ports(graph.outputs, "output")
        with words_of("onnx's reference implementation", "prepare the model"):
            self._evaluator = ReferenceEvaluator(_widened(graph.proto), new_ops=_quick())

    def run(self, inputs: Sequence[Tensor]) -> Mapping[str, Tensor]:
        """The outputs by name, in float64, for one batch of inputs in the graph's order."""
        feed = {name: tensor.double().numpy() for name, tensor in zip(self._inputs, inputs, strict=True)}
        with words_of("onnx's reference implementation", "run the model"), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # an untrusted model must not decide what is printed or raised
            results = self._evaluator.run(None, feed)
        return {name: torch.from_numpy(np.array(array)) for name, array in zip(self._outputs, results, strict=True)}


def _widened(model: ModelProto) -> ModelProto:
    """A copy of ``model`` whose floating-point weights, constants and conversions are float64."""
    import onnx

    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    del copy.graph.value_info[:]
    double, floats = (
        onnx.TensorProto.DOUBLE,
        (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16),
    )
    for value in (*copy.graph.input, *copy.graph.output):
        if value.type.tensor_type.elem_type in floats:
            value.type.tensor_type.elem_type = double
    for tensor in copy.graph.initializer:
        _widen(tensor)
    for node in copy.graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                _widen(attribute.t)
            elif attribute.name == "to" and attribute.i in floats:
                attribute.i = double
    return copy


def _widen(tensor: Any) -> None:
    from onnx import TensorProto, numpy_helper

    if tensor.data_type not in (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.DOUBLE):
        return
    array = numpy_helper.to_array(tensor)
    exact = array.astype(np.float64) if array.size == 1 else array.astype(np.float32).astype(np.float64)
    tensor.CopyFrom(numpy_helper.from_array(exact, tensor.name))


def _quick() -> list[Any]:
    """Convolution, pools, resizing, hard swish and batch norm as operators of the reference implementation.

    The reference implementation's hard swish uses constants rounded to float32. Its batch norm before opset 14 uses the
    batch's own statistics, which the standard forbids for a node with one output.
    """
    from onnx.reference.op_run import OpRun

    class Conv(OpRun):
        def _run(self, x: Array, w: Array, b: Array | None = None, **a: object) -> tuple[Array]:
            return (convolve(x, w, b, a),)

    class MaxPool(OpRun):
        def _run(self, x: Array, **a: Any) -> tuple[Array]:
            return (np.maximum.reduce([part for _, part in _taps(x, a["kernel_shape"], a, -np.inf)]),)

    class AveragePool(OpRun):
        def _run(self, x: Array, **a: object) -> tuple[Array]:
            return (average(x, a),)

    class HardSwish(OpRun):
        def _run(self, x: Array) -> tuple[Array]:
            return (x * np.clip(x / 6 + 0.5, 0, 1),)

    class Resize(OpRun):
        def _run(self, x: Array, _: Any = None, scales: Any = None, sizes: Any = None, **a: Any) -> tuple[Array]:
            return (resize(x, scales, sizes, a),)

    class BatchNormalization(OpRun):
        def _run(self, x: Array, scale: Array, bias: Array, mean: Array, var: Array, **a: object) -> tuple[Array]:
            shape = (1, -1, *[1] * (x.ndim - 2))
            scale, bias, mean, var = (v.reshape(shape) for v in (scale, bias, mean, var))
            return ((x - mean) / np.sqrt(var + (a.get("epsilon") or 1e-5)) * scale + bias,)

    return [Conv, MaxPool, AveragePool, HardSwish, Resize, BatchNormalization]


def convolve(x: Array, w: Array, b: Array | None, a: Mapping[str, Any]) -> Array:
    """ONNX ``Conv``: ``x`` (N, C, ...), ``w`` (M, C/group, ...); one matrix product for each kernel position."""
    groups = a.get("group") or 1
    weight = np.moveaxis(w.reshape(groups, w.shape[0] // groups, *w.shape[1:]), (0, 1, 2), (-3, -2, -1))
    total: Array | float = 0.0
    for position, part in _taps(x, w.shape[2:], a, 0.0):
        grouped = part.reshape(x.shape[0], groups, x.shape[1] // groups, -1)
        total = total + np.matmul(weight[position], grouped)
        sizes = part.shape[2:]
    result = np.asarray(total).reshape(x.shape[0], w.shape[0], *sizes)
    return result if b is None else result + b.reshape(-1, *[1] * len(sizes))


def average(x: Array, a: Mapping[str, Any]) -> Array:
    """ONNX ``AveragePool``; padding counts only with ``count_include_pad``, and what ``ceil_mode`` adds never does."""
    kernel, around = a["kernel_shape"], [(0, 0), (0, 0), *_padding(x, a["kernel_shape"], a)]
    counted = np.ones_like(np.pad(x, around))
    if not a.get("count_include_pad"):
        counted = np.pad(np.ones_like(x), around)
    total = sum(part for _, part in _taps(x, kernel, a, 0.0))
    return np.asarray(total / sum(part for _, part in _taps(x, kernel, a, 0.0, counted)))


def resize(x: Array, scales: Array | None, sizes: Array | None, a: Mapping[str, Any]) -> Array:
    """ONNX ``Resize`` of ``x`` (N, C, ...), axis by axis: nearest rounded down and asymmetric, or linear."""
    for axis in range(2, x.ndim):
        length = x.shape[axis]
        if sizes is not None and len(sizes):
            count, scale = int(sizes[axis]), int(sizes[axis]) / length
        else:
            scale = 1.0 if scales is None else float(scales[axis])
            count = math.floor(length * scale)
        at = np.arange(count, dtype=np.float64)
        if a["mode"] == "nearest":
            x = np.take(x, np.clip(np.floor(at / scale), 0, length - 1).astype(int), axis)
            continue
        if a["coordinate_transformation_mode"] == "align_corners":
            at = at * (length - 1) / max(count - 1, 1)
        else:
            at = (
                np.zeros(1)
                if count == 1 and "pytorch" in a["coordinate_transformation_mode"]
                else (at + 0.5) / scale - 0.5
            )
        low = np.floor(at)
        part = (at - low).reshape([-1 if i == axis else 1 for i in range(x.ndim)])
        below, above = (np.take(x, np.clip(edge, 0, length - 1).astype(int), axis) for edge in (low, low + 1))
        x = below * (1 - part) + above * part
    return x


def _padding(x: Array, kernel: Sequence[int], a: Mapping[str, Any]) -> list[tuple[int, int]]:
    axes = len(kernel)
    strides, dilations = a.get("strides") or [1] * axes, a.get("dilations") or [1] * axes
    auto = a.get("auto_pad") or "NOTSET"
    auto = auto.decode() if isinstance(auto, bytes) else auto
    if auto not in ("SAME_UPPER", "SAME_LOWER"):
        pads = (a.get("pads") if auto == "NOTSET" else None) or [0] * 2 * axes
        return [(pads[i], pads[i + axes]) for i in range(axes)]
    pairs = []
    for size, k, stride, dilation in zip(x.shape[2:], kernel, strides, dilations):
        missing = max((-(-size // stride) - 1) * stride + (k - 1) * dilation + 1 - size, 0)
        small, large = missing // 2, missing - missing // 2
        pairs.append((small, large) if auto == "SAME_UPPER" else (large, small))
    return pairs


def _taps(
    x: Array, kernel: Sequence[int], a: Mapping[str, Any], fill: float, padded: Array | None = None
) -> Iterator[tuple[tuple[int, ...], Array]]:
    """For each kernel position, the inputs at that position for all outputs: (N, C, *output sizes).

    ``padded``, if given, is used instead of ``x`` with padding.
    """
    axes = len(kernel)
    strides, dilations = a.get("strides") or [1] * axes, a.get("dilations") or [1] * axes
    pads, more, sizes = [], [], []
    for size, k, stride, dilation, (begin, end) in zip(x.shape[2:], kernel, strides, dilations, _padding(x, kernel, a)):
        room = size + begin + end - (k - 1) * dilation - 1
        count = (-(-room // stride) if a.get("ceil_mode") else room // stride) + 1
        if a.get("ceil_mode") and (count - 1) * stride >= size + begin:
            count -= 1  # omit a window that would begin in the padding at the end
        sizes.append(count)
        beyond = max(0, (count - 1) * stride + (k - 1) * dilation + 1 - size - begin - end)
        pads.append((begin, end) if padded is None else (0, 0))
        more.append((0, beyond))
    whole = np.pad(x if padded is None else padded, [(0, 0), (0, 0), *pads], constant_values=fill)
    whole = np.pad(whole, [(0, 0), (0, 0), *more], constant_values=fill)
    for position in itertools.product(*map(range, kernel)):
        cut = [
            slice(at * dilation, at * dilation + (count - 1) * stride + 1, stride)
            for at, dilation, count, stride in zip(position, dilations, sizes, strides)
        ]
        yield position, whole[(slice(None), slice(None), *cut)]
