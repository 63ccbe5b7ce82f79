"""A float32 ONNX model in int8 for ONNX Runtime and for TensorRT: quantize-dequantize pairs around products only.

It follows what TensorRT's parser accepts: symmetric, zero points 0, one scale a tensor for activations and one an
output channel for weights, Conv and Gemm only, biases in float32. Attention stays in float32, and so does whatever
lies between products: a clip is fused with the rounding behind it, which has the range of what comes out of it.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from ulsam_deploy.calibration import whole_batches
from ulsam_deploy.contracts import Calibration
from ulsam_deploy.program import Program
from ulsam_deploy.program.ownership import Operator, kept, owners
from ulsam_deploy.third_party import quiet, words_of

from . import onnx_model

PRODUCTS = ("Conv", "Gemm")
#: Samples that ranges are taken from; ONNX Runtime keeps a minimum and maximum of every tensor for each.
_SAMPLES = 256

Feed = dict[str, np.ndarray[Any, Any]]


def to_int8(
    model: onnx.ModelProto, program: Program, calibration: Calibration, keep: tuple[str, ...] = ()
) -> tuple[onnx.ModelProto, dict[str, Any]]:
    """``model``, made from the lowered ``program``, with its products in int8 but those of attention and of ``keep``.

    Ranges are the smallest and largest value over ``calibration``. Facts: ``kept_operators``; ``quantized_products``
    of how many ``products``.
    """
    left = operators_of(model, program, calibration, (*keep, *(block.path for block in program.blocks)))
    products = [node.name for node in model.graph.node if node.op_type in PRODUCTS]
    chosen = [name for name in products if name not in left]
    quantized = _quantized(model, program, calibration, chosen) if chosen else model
    facts = {
        "attention": "float",
        "kept_operators": len(left),
        "products": len(products),
        "quantized_products": len(chosen),
    }
    return onnx_model.check(quantized), facts


def operators_of(
    model: onnx.ModelProto, program: Program, calibration: Calibration, keep: tuple[str, ...]
) -> tuple[str, ...]:
    """The names of the nodes of ``model`` that compute part of the modules in ``keep`` (PyTorch paths)."""
    feed = next(whole_batches(calibration, program.batch or 1, _SAMPLES))
    constant = {tensor.name for tensor in model.graph.initializer}
    operators = [
        Operator(node.name, tuple(name for name in node.input if name and name not in constant), node.output[0])
        for node in model.graph.node
    ]
    return kept(owners(program, operators, _values(model, feed), feed), keep)


def _values(model: onnx.ModelProto, feed: Feed) -> Feed:
    """What every node gives on ``feed``, by the name of its first output."""
    import onnxruntime

    shown = onnx.ModelProto()
    shown.CopyFrom(model)
    present = {output.name for output in model.graph.output}
    for node in model.graph.node:
        if node.output[0] not in present:
            shown.graph.output.add().name = node.output[0]
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    with words_of("ONNX Runtime", "run the model with all of its values as outputs"):
        session = onnxruntime.InferenceSession(shown.SerializeToString(), options, providers=["CPUExecutionProvider"])
        return dict(zip([port.name for port in session.get_outputs()], session.run(None, feed))) | feed


def _quantized(
    model: onnx.ModelProto, program: Program, calibration: Calibration, chosen: list[str]
) -> onnx.ModelProto:
    with words_of("onnxruntime.quantization", "quantize the model"), quiet(), tempfile.TemporaryDirectory() as place:
        from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static

        path = Path(place, "model.onnx")
        quantize_static(
            model,
            path,
            _Reader(whole_batches(calibration, program.batch or 1, _SAMPLES)),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=list(PRODUCTS),
            nodes_to_quantize=chosen,
            per_channel=True,
            activation_type=QuantType.QInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=CalibrationMethod.MinMax,
            extra_options={
                "ActivationSymmetric": True,
                "WeightSymmetric": True,
                "QuantizeBias": False,
                "OpTypesToExcludeOutputQuantization": list(PRODUCTS),
            },
        )
        quantized = onnx.load(path)
    onnx_model.strip(quantized)
    return quantized


class _Reader:
    """Samples as ONNX Runtime's calibrator asks for them."""

    def __init__(self, samples: Iterator[Feed]) -> None:
        self._samples = samples

    def get_next(self) -> Feed | None:
        """The next batch, ``None`` behind the last one."""
        return next(self._samples, None)
