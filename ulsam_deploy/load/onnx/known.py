"""Computes what is known in an ONNX graph before the network runs: shapes, axes and indices, as small arrays.

Exporters write ``x.view(n, 1, -1)`` as a dozen operators on integers. These are computed while the network is traced,
in arrays of Python objects, so that the symbol that torch uses for a dynamic batch passes through them. Fractional
numbers are Python floats here.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from ulsam_deploy.device.arrays import Array

#: No real shape arithmetic is longer, but a ConstantOfShape in an untrusted file may be.
MOST = 1 << 20
#: Whole numbers have 64 bits in ONNX; those of Python grow without end.
_BITS = 64


def of(values: object) -> Array:
    """``values`` as an array of Python objects."""
    return np.array(values.tolist() if isinstance(values, np.ndarray) else values, dtype=object)


def ints(array: Array) -> list[Any]:
    """A list of sizes: integers, or torch's symbols for them."""
    return [int(value) if isinstance(value, float | bool) else value for value in array.reshape(-1)]


def run(op: str, attributes: Mapping[str, Any], *arrays: Array) -> Array | tuple[Array, ...]:
    """The result of the operator ``op``; raises :class:`ValueError` for whole numbers that ONNX can't hold."""
    found = OPERATORS[op](attributes, *arrays)
    for result in found if isinstance(found, tuple) else (found,):
        if any(isinstance(value, int) and value.bit_length() > _BITS for value in result.flat):
            raise ValueError(f"a whole number of more than {_BITS} bits")
    return found


def _each(function: Callable[..., object]) -> Callable[..., Array]:
    def run(_: Mapping[str, object], *arrays: Array) -> Array:
        _check_count(math.prod(np.broadcast_shapes(*(array.shape for array in arrays))))
        return of(np.frompyfunc(function, len(arrays), 1)(*arrays))

    return run


def _divided(left: Any, right: Any) -> Any:
    """ONNX's integer division truncates; as sizes are never negative, that equals the floor."""
    if isinstance(left, float) or isinstance(right, float):
        return left / right
    return -(-left // right) if isinstance(left, int) and left < 0 < right else left // right


def _cast(a: Mapping[str, object], x: Array) -> Array:
    import onnx

    kind = onnx.TensorProto.DataType.Name(a["to"])
    if kind == "BOOL":
        return of(np.frompyfunc(bool, 1, 1)(x))
    if "FLOAT" in kind or kind == "DOUBLE":
        return of(np.frompyfunc(lambda v: float(v) if isinstance(v, int | float) else v, 1, 1)(x))
    return of(np.frompyfunc(lambda v: int(v) if isinstance(v, float | bool) else v, 1, 1)(x))


def _axes(a: Mapping[str, Any], given: Array | None) -> list[int] | None:
    found = a.get("axes") if given is None else ints(given)
    return None if found is None else list(found)


def _unsqueeze(a: Mapping[str, object], x: Array, axes: Array | None = None) -> Array:
    return np.expand_dims(x, tuple(_axes(a, axes) or ()))


def _squeeze(a: Mapping[str, object], x: Array, axes: Array | None = None) -> Array:
    wanted = _axes(a, axes)
    return np.squeeze(x, None if wanted is None else tuple(wanted))


def _slice(
    _: Mapping[str, object], x: Array, starts: Array, ends: Array, axes: Array | None = None, steps: Array | None = None
) -> Array:
    where = list(range(len(starts))) if axes is None else ints(axes)
    by = [1] * len(starts) if steps is None else ints(steps)
    index: list[Any] = [slice(None)] * x.ndim
    for axis, start, end, step in zip(where, ints(starts), ints(ends), by, strict=True):
        index[axis] = slice(start, None if step < 0 and end < -x.shape[axis] else end, step)
    return np.asarray(x[tuple(index)], dtype=object)


def _gather(a: Mapping[str, Any], x: Array, indices: Array) -> Array:
    return np.asarray(np.take(x, indices.astype(np.int64), axis=a.get("axis", 0)), dtype=object)


def _filled(a: Mapping[str, Any], shape: Array) -> Array:
    from onnx import numpy_helper

    sizes = ints(shape)
    _check_count(math.prod(sizes))
    value = numpy_helper.to_array(a["value"]).item() if "value" in a else 0.0
    return np.full(sizes, value, dtype=object)


def _range(_: Mapping[str, object], start: Array, limit: Array, delta: Array) -> Array:
    numbers = range(start.item(), limit.item(), delta.item())
    if len(numbers) > MOST:
        raise ValueError(f"a range of {len(numbers)} elements")
    return of(list(numbers))


def _reshape(_: Mapping[str, object], x: Array, shape: Array) -> Array:
    return x.reshape([x.shape[i] if size == 0 else size for i, size in enumerate(ints(shape))])


def _prod(a: Mapping[str, object], x: Array, axes: Array | None = None) -> Array:
    wanted = _axes(a, axes)
    return of(np.prod(x, axis=None if wanted is None else tuple(wanted), keepdims=bool(a.get("keepdims", 1))))


def _expand(_: Mapping[str, object], x: Array, shape: Array) -> Array:
    sizes = np.broadcast_shapes(x.shape, tuple(ints(shape)))
    _check_count(math.prod(sizes))
    return np.broadcast_to(x, sizes)


def _tile(_: Mapping[str, object], x: Array, repeats: Array) -> Array:
    _check_count(x.size * math.prod(ints(repeats)))
    return np.tile(x, ints(repeats))


def _power(base: Any, exponent: Any) -> Any:
    if isinstance(exponent, int) and exponent > _BITS:
        raise ValueError(f"a power of {exponent}")
    return base**exponent


def _check_count(count: int) -> None:
    if count > MOST:
        raise ValueError(f"a constant of {count} elements")


def _concat(a: Mapping[str, Any], *parts: Array) -> Array:
    _check_count(sum(part.size for part in parts))
    return np.concatenate(parts, a["axis"])


def _transpose(a: Mapping[str, Any], x: Array) -> Array:
    return np.transpose(x, a.get("perm"))


def _split(a: Mapping[str, Any], x: Array, sizes: Array | None = None) -> tuple[Array, ...]:
    axis, given = a.get("axis", 0), a.get("split") if sizes is None else ints(sizes)
    size = -(-x.shape[axis] // a["results"])
    cuts = np.cumsum(given)[:-1].tolist() if given else range(size, x.shape[axis], size)
    return tuple(np.split(x, list(cuts), axis))


OPERATORS: Mapping[str, Callable[..., Array | tuple[Array, ...]]] = {
    "Add": _each(operator.add),
    "Sub": _each(operator.sub),
    "Mul": _each(operator.mul),
    "Div": _each(_divided),
    "Mod": _each(operator.mod),
    "Neg": _each(operator.neg),
    "Min": _each(min),
    "Max": _each(max),
    "Floor": _each(math.floor),
    "Ceil": _each(math.ceil),
    "Sqrt": _each(math.sqrt),
    "Pow": _each(_power),
    "Equal": _each(lambda left, right: bool(left == right)),
    "LessOrEqual": _each(lambda left, right: bool(left <= right)),
    "GreaterOrEqual": _each(lambda left, right: bool(left >= right)),
    "Less": _each(lambda left, right: bool(left < right)),
    "Greater": _each(lambda left, right: bool(left > right)),
    "Not": _each(operator.not_),
    "And": _each(lambda left, right: left and right),
    "Or": _each(lambda left, right: left or right),
    "Where": _each(lambda condition, yes, no: yes if condition else no),
    "Identity": lambda _, x: x,
    "Cast": _cast,
    "CastLike": lambda _, x, __: x,
    "Unsqueeze": _unsqueeze,
    "Squeeze": _squeeze,
    "Slice": _slice,
    "Gather": _gather,
    "Concat": _concat,
    "Split": _split,
    "Transpose": _transpose,
    "Tile": _tile,
    "ConstantOfShape": _filled,
    "Range": _range,
    "Reshape": _reshape,
    "ReduceProd": _prod,
    "Expand": _expand,
}


def shape_of(a: Mapping[str, Any], sizes: Sequence[Any]) -> Array:
    """The result of ``Shape`` for a tensor of ``sizes``."""
    return of(list(sizes)[a.get("start", 0) : a.get("end")])
