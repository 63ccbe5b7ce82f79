"""Quantizes a float32 ONNX model to int8 for ONNX Runtime and TensorRT, with QDQ pairs around Conv and Gemm only.

For ONNX Runtime a product and the clip behind it are one.

Activations have one scale for each tensor, weights one for each output channel, and biases stay in float32. Attention
stays in float32, and so does everything between products. TensorRT's parser accepts zero points of 0 only; ONNX Runtime
computes a product in int8 only if its result is quantized too.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import onnx

from ulsam_deploy.device.arrays import Array
from ulsam_deploy.device.files import scratch
from ulsam_deploy.device.findings import ArtifactFacts, Quantized
from ulsam_deploy.device.third_party import quiet, words_of
from ulsam_deploy.device.types import Calibration
from ulsam_deploy.graph import Program
from ulsam_deploy.graph.ownership import Operator, kept, owners

from ..dot_product import adds_pairs_in_16_bits
from ..last_results import last_results
from . import checking
from .sessions import one_thread

PRODUCTS = ("Conv", "Gemm")
#: What ONNX Runtime computes together with a product, if it is quantized along with it.
CLIPS = ("Clip", "Relu")
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
        calibration: Ranges are the mean of these inputs' ranges, or with attention the smallest and largest value.
        keep: PyTorch paths of modules that stay in floating point.
        scheme: The int8 form that the engine needs.

    Returns:
        The quantized model, and facts that count what stays in floating point and what is quantized.
    """
    left = operators_of(model, program, calibration, (*keep, *(block.path for block in program.blocks)))
    products = [node.name for node in model.graph.node if node.op_type in PRODUCTS]
    chosen = [name for name in products if name not in left]
    clips = _clips(model, chosen, set(left)) if scheme.outputs else []
    quantized = _quantized(model, program, calibration, [*chosen, *clips], scheme) if chosen else model
    if scheme.outputs:
        _read_unrounded(quantized, set(left))
    counts = Quantized(kept_operators=len(left), products=len(products), quantized_products=len(chosen))
    return checking.check(quantized), ArtifactFacts(attention="float", quantized=counts)


def operators_of(
    model: onnx.ModelProto, program: Program, calibration: Calibration, keep: tuple[str, ...]
) -> tuple[str, ...]:
    """The names of the nodes of ``model`` that compute any part of the modules in ``keep`` (PyTorch paths)."""
    feed = next(calibration.batches(program.batch or 1, _SAMPLES))
    (values,) = _values(model, [feed], [node.output[0] for node in model.graph.node])
    return kept(owners(program, _operators(model), values | feed, feed), keep)


def _operators(model: onnx.ModelProto) -> list[Operator]:
    constant = {tensor.name for tensor in model.graph.initializer}
    return [
        Operator(node.name, tuple(name for name in node.input if name and name not in constant), node.output[0])
        for node in model.graph.node
    ]


def _last_ranges(model: onnx.ModelProto, program: Program, calibration: Calibration) -> dict[str, tuple[float, float]]:
    """The smallest and largest value of each of :func:`last_results` over the samples."""
    products = [node.name for node in model.graph.node if node.op_type in PRODUCTS]
    names = last_results(_operators(model), [output.name for output in model.graph.output], products)
    made = [node.output[0] for node in model.graph.node if node.output[0] in names]
    ranges: dict[str, tuple[float, float]] = {}
    for values in _values(model, calibration.batches(program.batch or 1, _SAMPLES), made):
        for name in made:
            if values[name].dtype.kind == "f" and values[name].size:
                low, high = ranges.get(name, (0.0, 0.0))
                ranges[name] = min(low, float(values[name].min())), max(high, float(values[name].max()))
    return ranges


def _values(model: onnx.ModelProto, feeds: Iterable[Feed], names: Iterable[str]) -> Iterator[Feed]:
    """The tensors ``names`` for each of ``feeds``."""
    import onnxruntime

    shown = onnx.ModelProto()
    shown.CopyFrom(model)
    present = {output.name for output in model.graph.output}
    for name in names:
        if name not in present:
            shown.graph.output.add().name = name
    options = onnxruntime.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = 4, 1
    with words_of("ONNX Runtime", "run the model with all of its values as outputs"):
        session = onnxruntime.InferenceSession(shown.SerializeToString(), options, providers=["CPUExecutionProvider"])
        ports = [port.name for port in session.get_outputs()]
        for feed in feeds:
            yield dict(zip(ports, session.run(None, feed)))


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
            op_types_to_quantize=[*PRODUCTS, *CLIPS],
            nodes_to_quantize=chosen,
            per_channel=True,
            reduce_range=scheme.reduced and adds_pairs_in_16_bits(),
            activation_type=QuantType.QInt8 if scheme.symmetric else QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=CalibrationMethod.MinMax,
            extra_options={
                "ActivationSymmetric": scheme.symmetric,
                "WeightSymmetric": True,
                "QuantizeBias": False,
                # The mean of the samples' ranges, unless attention is near, whose step it would shrink by clipping.
                "CalibMovingAverage": not program.blocks,
                "TensorQuantOverrides": {
                    name: [{"rmin": np.float32(low), "rmax": np.float32(high)}]
                    for name, (low, high) in _last_ranges(model, program, calibration).items()
                },
                "OpTypesToExcludeOutputQuantization": [] if scheme.outputs else list(PRODUCTS),
            },
        )
        quantized = onnx.load(path)
    checking.strip(quantized)
    return quantized


def _clips(model: onnx.ModelProto, chosen: list[str], left: set[str]) -> list[str]:
    """The clips to quantize along with the products ``chosen``, so that these are rounded to the range behind the clip.

    The quantizer drops such a clip, because rounding clips as well. So one that attention reads, which reads what was
    not rounded, is none of them, and none whose product is read by others.
    """
    made = {node.output[0] for node in model.graph.node if node.name in chosen}
    readers = defaultdict(list)
    for node in model.graph.node:
        for name in node.input:
            readers[name].append(node.name)
    outputs = {output.name for output in model.graph.output}
    return [
        node.name
        for node in model.graph.node
        if node.op_type in CLIPS
        and node.input[0] in made - outputs
        and len(readers[node.input[0]]) == 1
        and not left.intersection([node.name, *readers[node.output[0]]])
        and node.output[0] not in outputs
    ]


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
