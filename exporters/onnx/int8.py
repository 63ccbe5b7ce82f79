"""A float32 ONNX model in int8 for ONNX Runtime and for TensorRT: quantize-dequantize pairs around products only.

One scale a tensor for activations and one an output channel for weights, Conv and Gemm only, biases in float32.
Attention stays in float32, and so does whatever lies between products. TensorRT's parser accepts zero points of 0 only;
ONNX Runtime leaves a product in float unless its result is rounded too.
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

PRODUCTS = ("Conv", "Gemm")
#: Samples that ranges are taken from; ONNX Runtime keeps a minimum and maximum of every tensor for each.
_SAMPLES = 256


@dataclass(frozen=True)
class Scheme:
    """How an engine wants int8. ``symmetric``: zero points 0, int8; otherwise uint8 with any zero point.

    ``outputs``: what products give is rounded as well. ``reduced``: weights have 7 bits, for processors that add pairs
    of products in 16 bits.
    """

    symmetric: bool
    outputs: bool
    reduced: bool


#: ONNX Runtime computes a product in int8 only between roundings, and drops a clip where the rounding clips as well.
ONNX_RUNTIME = Scheme(symmetric=False, outputs=True, reduced=True)
#: What TensorRT's parser accepts.
TENSORRT = Scheme(symmetric=True, outputs=False, reduced=False)

Feed = dict[str, Array]


def to_int8(
    model: onnx.ModelProto, program: Program, calibration: Calibration, keep: tuple[str, ...], scheme: Scheme
) -> tuple[onnx.ModelProto, ArtifactFacts]:
    """``model``, made from the lowered ``program``, with its products in int8 but those of attention and of ``keep``.

    Ranges are the smallest and largest value over ``calibration``. The facts
    count what is left and what is quantized.
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
    """The names of the nodes of ``model`` that compute part of the modules in ``keep`` (PyTorch paths)."""
    feed = next(calibration.batches(program.batch or 1, _SAMPLES))
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
    model: onnx.ModelProto, program: Program, calibration: Calibration, chosen: list[str], scheme: Scheme
) -> onnx.ModelProto:
    with words_of("onnxruntime.quantization", "quantize the model"), quiet(), scratch() as place:
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
    """Let the nodes in ``left``, and a clip in front of them, read what a product gives before it is rounded.

    Attention on 255 steps would be rounded back onto the same steps behind it.
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
    """Samples as ONNX Runtime's calibrator asks for them."""

    def __init__(self, samples: Iterator[Feed]) -> None:
        self._samples = samples

    def get_next(self) -> Feed | None:
        """The next batch, ``None`` behind the last one."""
        return next(self._samples, None)
