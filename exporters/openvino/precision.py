"""Quantizes an OpenVINO model to int8 with NNCF; attention and the requested modules stay in floating point."""

from __future__ import annotations

from typing import Any

from ulsam_deploy.device.arrays import Array
from ulsam_deploy.device.findings import ArtifactFacts, Quantized
from ulsam_deploy.device.third_party import load_openvino
from ulsam_deploy.device.types import Calibration
from ulsam_deploy.graph.ownership import Operator, kept, owners
from ulsam_deploy.graph.program import Program

#: Operators without arithmetic of their own.
_NO_WORK = ("Parameter", "Constant", "Result")


def to_int8(
    model: object, program: Program, calibration: Calibration, keep: tuple[str, ...] = ()
) -> tuple[Any, ArtifactFacts]:
    """Quantize weights and activations to int8; ``model`` itself is not changed, inputs and outputs stay float32.

    Weights are symmetric with one scale for each channel; activations have one range for each tensor. Call this within
    :func:`~ulsam_deploy.device.third_party.quiet`, because NNCF prints much.

    Args:
        model: The float32 model.
        program: The lowered program that it was converted from.
        calibration: Ranges are the mean of these inputs' ranges, or with attention the smallest and largest value.
        keep: PyTorch paths of modules that stay in floating point, like attention; ``""`` is the whole network.

    Returns:
        The quantized model, and facts: how many convolutions and matrix products compute in int8, of how many.
    """
    load_openvino()  # before nncf, so that its telemetry stays off
    import nncf
    from nncf.quantization.range_estimator import RangeEstimatorParameters, RangeEstimatorParametersSet

    from ..dot_product import adds_pairs_in_16_bits

    left = operators_of(model, program, calibration, (*keep, *(block.path for block in program.blocks)))
    samples = list(calibration.batches(program.batch or 1))
    quantized = nncf.quantize(
        model,
        nncf.Dataset(samples),
        preset=nncf.QuantizationPreset.MIXED,
        target_device=nncf.TargetDevice.CPU,
        subset_size=len(samples),
        ignored_scope=nncf.IgnoredScope(names=list(left)) if left else None,
        advanced_parameters=nncf.AdvancedQuantizationParameters(
            # By default the mean of the samples' ranges, which would shrink the step of attention by clipping.
            activations_range_estimator_params=(
                RangeEstimatorParametersSet.MINMAX if program.blocks else RangeEstimatorParameters()
            ),
            # CPUs without an int8 dot product add pairs of products in 16 bits, which overflows with 8-bit weights.
            overflow_fix=nncf.OverflowFix.ENABLE if adds_pairs_in_16_bits() else nncf.OverflowFix.DISABLE,
        ),
    )
    products = [op for op in quantized.get_ops() if op.get_type_name() in PRODUCTS]
    counts = Quantized(len(left), len(products), sum(_in_int8(op) for op in products))
    return quantized, ArtifactFacts(attention="float", quantized=counts)


#: The operators that engines compute in int8.
PRODUCTS = ("Convolution", "GroupConvolution", "MatMul")


def operators_of(model: Any, program: Program, calibration: Calibration, keep: tuple[str, ...]) -> tuple[str, ...]:
    """The friendly names of the operators of ``model`` that compute any part of the modules in ``keep``."""
    feed = next(calibration.batches(program.batch or 1))
    working = [op for op in model.get_ordered_ops() if op.get_type_name() not in _NO_WORK]
    operators = [Operator(op.get_friendly_name(), _read(op), op.get_friendly_name()) for op in working]
    return kept(owners(program, operators, _values(model, feed), feed), keep)


def _read(op: Any) -> tuple[str, ...]:
    """The friendly names of the operators that ``op`` reads, without constants."""
    sources = (port.get_source_output().get_node() for port in op.inputs())
    return tuple(source.get_friendly_name() for source in sources if source.get_type_name() != "Constant")


def _values(model: Any, feed: dict[str, Array]) -> dict[str, Array]:
    """The first output of every operator of ``model`` on ``feed``, by friendly name, in float32."""
    shown = model.clone()
    working = [op for op in shown.get_ordered_ops() if op.get_type_name() not in _NO_WORK]
    shown.add_outputs([op.output(0) for op in working])  # skips those that are outputs already
    names = [result.input_value(0).get_node().get_friendly_name() for result in shown.get_results()]
    config = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}
    compiled = load_openvino().Core().compile_model(shown, "CPU", config)
    produced = compiled(feed)
    return {name: produced[index] for index, name in enumerate(names)} | feed


def _in_int8(op: Any) -> bool:
    """Whether both the activation and the weight of a product were quantized to int8."""
    return all(_rounded(port.get_source_output().get_node()) for port in list(op.inputs())[:2])


def _rounded(node: Any) -> bool:
    """Whether ``node`` quantizes, only moves what was quantized, or holds integers."""
    while node.get_type_name() in ("Reshape", "Convert", "Multiply", "Subtract", "Transpose"):
        node = node.input_value(0).get_node()
    return node.get_type_name() == "FakeQuantize" or (
        node.get_type_name() == "Constant" and node.get_element_type().to_dtype().kind in "iu"
    )
