"""Quantizes a float32 ONNX model to int8 for ONNX Runtime and TensorRT, with QDQ pairs around Conv and Gemm only.

Activations have one scale for each tensor, weights one for each output channel, and biases stay in float32. Attention
stays in float32, and so does everything between products. TensorRT's parser accepts zero points of 0 only; ONNX Runtime
computes a product in int8 only if its result is quantized too.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import onnx

from ulsam_deploy.device.arrays import Array
from ulsam_deploy.device.files import scratch
from ulsam_deploy.device.findings import ArtifactFacts, Quantized
from ulsam_deploy.device.third_party import quiet, words_of
from ulsam_deploy.device.types import Calibration
from ulsam_deploy.graph import Program
from ulsam_deploy.graph.ownership import Operator, kept, owners

from . import model as onnx_model
from .sessions import one_thread

PRODUCTS = ("Conv", "Gemm")
#: The number of samples that ranges are taken from; ONNX Runtime stores the range of every tensor for each of them.
_SAMPLES = 256


@dataclass(frozen=True)
class Scheme:
    """The int8 form that an engine needs.

    Attributes:
        symmetric: int8 with zero points of 0; otherwise uint8 with any zero point.
        outputs: Quantize the results of products as well.
        reduced: Weights have 7 bits, for processors that add pairs of products in 16 bits.
    """

    symmetric: bool
    outputs: bool
    reduced: bool


#: ONNX Runtime computes a product in int8 only between QDQ pairs, and drops a clip if quantization clips as well.
ONNX_RUNTIME = Scheme(symmetric=False, outputs=True, reduced=True)
#: The form that TensorRT's parser accepts.
TENSORRT = Scheme(symmetric=True, outputs=False, reduced=False)

Feed = dict[str, Array]


def to_int8(
    model: onnx.ModelProto, program: Program, calibration: Calibration, keep: tuple[str, ...], scheme: Scheme
) -> tuple[onnx.ModelProto, ArtifactFacts]:
    """Quantize the products of ``model``, except those of attention and of the modules in ``keep``.

    Args:
        model: The float32 model.
        program: The lowered program that it was made from.
        calibration: Ranges are the smallest and largest value over these inputs.
        keep: PyTorch paths of modules that stay in floating point.
        scheme: The int8 form that the engine needs.

    Returns:
        The quantized model, and facts that count what stays in floating point and what is quantized.
    """
    left = operators_of(model, program, calibration, (*keep, *(block.path for block in program.blocks)))
    products = [node.name for node in model.graph.node if node.op_type in PRODUCTS]
    chosen = [name for name in products if name not in left]
    quantized = _quantized(model, program, calibration, chosen, scheme) if chosen else model
    if scheme.outputs:
        _read_unrounded(quantized, set(left))
    counts = Quantized(kept_operators=len(left), products=len(products), quantized_products=len(chosen))
    return onnx_model.check(quantized), ArtifactFacts(attention="float", quantized=counts)


def operators_of(
    model: onnx.ModelProto, program: Program, calibration: Calibration, keep: tuple[str, ...]
) -> tuple[str, ...]:
    """The names of the nodes of ``model`` that compute any part of the modules in ``keep`` (PyTorch paths)."""
    feed = next(calibration.batches(program.batch or 1, _SAMPLES))
    constant = {tensor.name for tensor in model.graph.initializer}
    operators = [
        Operator(node.name, tuple(name for name in node.input if name and name not in constant), node.output[0])
        for node in model.graph.node
    ]
    return kept(owners(program, operators, _values(model, feed), feed), keep)


def _values(model: onnx.ModelProto, feed: Feed) -> Feed:
    """The result of every node on ``feed``, by the name of its first output."""
    import onnxruntime

    shown = onnx.ModelProto()
    shown.CopyFrom(model)
    present = {output.name for output in model.graph.output}
    for node in model.graph.node:
        if node.output[0] not in present:
            shown.graph.output.add().name = node.output[0]
    options = onnxruntime.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = 4, 1
    with words_of("ONNX Runtime", "run the model with all of its values as outputs"):
        session = onnxruntime.InferenceSession(shown.SerializeToString(), options, providers=["CPUExecutionProvider"])
        return dict(zip([port.name for port in session.get_outputs()], session.run(None, feed))) | feed


def _quantized(
    model: onnx.ModelProto, program: Program, calibration: Calibration, chosen: list[str], scheme: Scheme
) -> onnx.ModelProto:
    with words_of("onnxruntime.quantization", "quantize the model"), quiet(), one_thread(), scratch() as place:
        from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static

        path = place / "model.onnx"
        quantize_static(
            model,
            path,
            _Reader(calibration.batches(program.batch or 1, _SAMPLES)),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=list(PRODUCTS),
            nodes_to_quantize=chosen,
            per_channel=True,
            reduce_range=scheme.reduced,
            activation_type=QuantType.QInt8 if scheme.symmetric else QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=CalibrationMethod.MinMax,
            extra_options={
                "ActivationSymmetric": scheme.symmetric,
                "WeightSymmetric": True,
                "QuantizeBias": False,
                "OpTypesToExcludeOutputQuantization": [] if scheme.outputs else list(PRODUCTS),
            },
        )
        quantized = onnx.load(path)
    onnx_model.strip(quantized)
    return quantized


def _read_unrounded(model: onnx.ModelProto, left: set[str]) -> None:
    """Make the nodes in ``left``, and a clip in front of them, read the result of a product before it is quantized.

    Otherwise attention would get an input of 255 steps, and the next quantization would round its result to the same
    steps again.
    """
    made = {name: node for node in model.graph.node for name in node.output}
    read = [made[name] for node in model.graph.node if node.name in left for name in node.input if name in made]
    left = left | {node.name for node in read if node.op_type in ("Clip", "Relu")}
    for node in model.graph.node:
        for index, name in enumerate(node.input if node.name in left else ()):
            restored = made.get(name)
            rounded = made.get(restored.input[0]) if restored and restored.op_type == "DequantizeLinear" else None
            if rounded is not None:
                node.input[index] = rounded.input[0]


class _Reader:
    """Provides samples through the interface of ONNX Runtime's calibrator."""

    def __init__(self, samples: Iterator[Feed]) -> None:
        self._samples = samples

    def get_next(self) -> Feed | None:
        """The next batch; ``None`` after the last one."""
        return next(self._samples, None)
