"""What the float64 reference computes by numpy is what onnx's own reference implementation computes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

onnx = pytest.importorskip("onnx")
pytest.importorskip("torch")

from onnx import TensorProto, helper  # noqa: E402
from onnx.reference import ReferenceEvaluator  # noqa: E402

from ulsam_deploy.load.onnx.reference_operators import _taps, average, replacements  # noqa: E402

SIZES = st.integers(1, 3)
PADS = st.one_of(
    st.tuples(*[st.integers(0, 1)] * 4).map(lambda p: {"pads": list(p)}),
    st.sampled_from(["VALID", "SAME_UPPER", "SAME_LOWER"]).map(lambda word: {"auto_pad": word}),
)


def both(op: str, inputs: list[np.ndarray[Any, Any] | None], opset: int = 17, **attributes: Any) -> list[Any]:
    """What we and onnx compute for one node."""
    names = ["" if value is None else f"x{i}" for i, value in enumerate(inputs)]
    feed = {name: value for name, value in zip(names, inputs) if name}
    kinds = {name: helper.np_dtype_to_tensor_dtype(value.dtype) for name, value in feed.items()}
    graph = helper.make_graph(
        [helper.make_node(op, names, ["y"], **attributes)],
        "one",
        [helper.make_tensor_value_info(name, kinds[name], None) for name in feed],
        [helper.make_tensor_value_info("y", TensorProto.DOUBLE, None)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    return [ReferenceEvaluator(model, new_ops=new).run(None, feed)[0] for new in (replacements(17), None)]


def same(op: str, inputs: list[Any], **attributes: Any) -> None:
    ours, theirs = both(op, inputs, **attributes)
    assert ours.dtype == np.float64
    assert ours.shape == theirs.shape
    np.testing.assert_allclose(ours, theirs, rtol=1e-12, atol=1e-12)


@given(st.integers(0, 2**32 - 1), SIZES, SIZES, st.integers(1, 2), PADS, st.sampled_from([1, 2, 4]), st.booleans())
@settings(max_examples=30, deadline=None)
def test_convolution(seed: int, kernel: int, stride: int, dilation: int, pads: Any, groups: int, bias: bool) -> None:
    if "auto_pad" in pads:
        dilation = 1  # onnx's reference leaves dilation out when it works padding out itself
    rng = np.random.default_rng(seed)
    inputs = [rng.normal(size=(2, 4, 7, 8)), rng.normal(size=(8, 4 // groups, kernel, kernel))]
    inputs += [rng.normal(size=8)] if bias else []
    same("Conv", inputs, group=groups, strides=[stride, 1], dilations=[dilation, 1], **pads)


@given(st.integers(0, 2**32 - 1), st.integers(2, 3), SIZES, st.integers(0, 1))
@settings(max_examples=10, deadline=None)
def test_pools(seed: int, kernel: int, stride: int, pad: int) -> None:
    x = np.random.default_rng(seed).normal(size=(1, 2, 5, 6))
    attributes = {"kernel_shape": [kernel, kernel], "strides": [stride, stride], "pads": [pad] * 4}
    same("MaxPool", [x], **attributes)
    for whole in (0, 1):
        same("AveragePool", [x], count_include_pad=whole, **attributes)


@given(st.integers(0, 2**32 - 1), st.integers(2, 3), SIZES, st.integers(0, 1))
@settings(max_examples=30, deadline=None)
def test_pools_that_round_up_are_torchs(seed: int, kernel: int, stride: int, pad: int) -> None:
    """onnx's own keeps a window that begins behind the image, which the standard forbids since opset 22."""
    import torch.nn.functional as F
    from torch import from_numpy

    x = np.random.default_rng(seed).normal(size=(1, 2, 5, 6))
    attributes = {"kernel_shape": [kernel] * 2, "strides": [stride] * 2, "pads": [pad] * 4, "ceil_mode": 1}
    largest = np.maximum.reduce([part for _, part in _taps(x, [kernel] * 2, attributes, -np.inf)])
    assert np.array_equal(largest, F.max_pool2d(from_numpy(x), kernel, stride, pad, ceil_mode=True).numpy())
    for whole in (False, True):
        mean = average(x, {**attributes, "count_include_pad": int(whole)})
        expected = F.avg_pool2d(from_numpy(x), kernel, stride, pad, ceil_mode=True, count_include_pad=whole)
        np.testing.assert_allclose(mean, expected.numpy(), rtol=1e-12)


@pytest.mark.parametrize("mode", ["nearest", "half_pixel", "pytorch_half_pixel", "align_corners"])
@pytest.mark.parametrize("sizes", [(6, 10), (7, 3), (1, 1), (3, 5)])
def test_resizing(mode: str, sizes: tuple[int, int]) -> None:
    x = np.random.default_rng(0).normal(size=(2, 3, 3, 5))
    nearest = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    linear = {"mode": "linear", "coordinate_transformation_mode": mode}
    same("Resize", [x, None, None, np.array([2, 3, *sizes])], **(nearest if mode == "nearest" else linear))


@pytest.mark.parametrize("opset", [11, 13, 14, 15, 17])
def test_batch_norm_by_the_statistics_that_it_is_given(opset: int) -> None:
    rng = np.random.default_rng(opset)
    x, (scale, bias, mean), var = rng.normal(size=(2, 3, 4, 5)), rng.normal(size=(3, 3)), rng.uniform(0.5, 2, 3)
    ours, theirs = both("BatchNormalization", [x, scale, bias, mean, var], opset, epsilon=1e-3)
    expected = (x - mean[:, None, None]) / np.sqrt(var + np.float32(1e-3).astype(float))[:, None, None]
    expected = expected * scale[:, None, None] + bias[:, None, None]
    np.testing.assert_allclose(ours, expected, rtol=1e-12)
    if opset >= 14:
        np.testing.assert_allclose(ours, theirs, rtol=1e-6)  # onnx's keeps epsilon in float32


def test_hard_swish_is_exact() -> None:
    x = np.linspace(-5, 5, 101)
    ours, theirs = both("HardSwish", [x])
    np.testing.assert_allclose(ours, x * np.clip(x + 3, 0, 6) / 6, rtol=1e-14)
    np.testing.assert_allclose(ours, theirs, atol=1e-6)
