"""The exported artifact computes what the PyTorch network computes, static and dynamic, on the real engines."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

CASES = [("onnx", None), ("onnx", 4), ("openvino", None), ("openvino", 4), ("tflite", 4)]


def relative_error(made, session, batch):
    images = made.images(batch)
    expected = made.reference(images)
    found = session.run({"input": images})["logits"]
    assert found.shape == expected.shape
    return np.abs(found - expected).max() / np.abs(expected).max()


@pytest.mark.parametrize(("target", "batch"), CASES)
def test_output_is_that_of_float64_pytorch(made: Any, target: Any, batch: Any) -> None:
    with made(target, batch).session() as session:
        for size in (1, 3, 5) if batch is None else (batch,):
            assert relative_error(made(target, batch), session, size) < 1e-6


@pytest.mark.parametrize("target", ["onnx", "openvino", "tflite"])
def test_the_comparison_would_notice_missing_attention(made: Any, target: str) -> None:
    whole, ablated = made(target, 4), made(target, 4, attention=False)
    images = whole.images(4)
    with ablated.session() as session:
        found = session.run({"input": images})["logits"]
    expected = whole.reference(images)
    assert np.abs(found - expected).max() / np.abs(expected).max() > 1e-3
