"""An OpenVINO model in int8 by NNCF: attention, and whatever modules are asked for, stay in floating point."""

from __future__ import annotations

from typing import Any

from ulsam_deploy.device.arrays import Array
from ulsam_deploy.device.findings import ArtifactFacts, Quantized
from ulsam_deploy.device.third_party import load_openvino
from ulsam_deploy.device.types import Calibration
from ulsam_deploy.graph.ownership import Operator, kept, owners
from ulsam_deploy.graph.program import Program

#: Operators that hold no arithmetic of their own.
_NO_WORK = ("Parameter", "Constant", "Result")


def to_int8(
    model: object, program: Program, calibration: Calibration, keep: tuple[str, ...] = ()
) -> tuple[Any, ArtifactFacts]:
    """``model``, converted from the lowered ``program``, in int8: weights and activations; ``model`` is not changed.

    Weights are symmetric with one scale a channel, activations have one range a tensor, the smallest to the largest
    value over ``calibration``. Operators of attention blocks and of the modules in ``keep`` (PyTorch paths, ``""`` is
    the network) are left as they are; inputs and outputs stay float32. The facts
    count how many convolutions and matrix products compute in int8, of how many.

    Run it where NNCF's chatter is caught (:func:`~ulsam_deploy.device.third_party.quiet`).
    """
    load_openvino()  # before nncf: without its telemetry
    import nncf
    from nncf.quantization.range_estimator import RangeEstimatorParametersSet

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
            # By default ranges are averaged over the samples, which clips the largest scores of attention.
            activations_range_estimator_params=RangeEstimatorParametersSet.MINMAX,
            # CPUs without a dot product of int8 add pairs of products in 16 bits, which full weights overflow.
            overflow_fix=nncf.OverflowFix.ENABLE,
        ),
    )
    products = [op for op in quantized.get_ops() if op.get_type_name() in PRODUCTS]
    counts = Quantized(len(left), len(products), sum(_in_int8(op) for op in products))
    return quantized, ArtifactFacts(attention="float", quantized=counts)


#: What engines compute in int8.
PRODUCTS = ("Convolution", "GroupConvolution", "MatMul")


def operators_of(model: Any, program: Program, calibration: Calibration, keep: tuple[str, ...]) -> tuple[str, ...]:
    """The friendly names of the operators of ``model`` that compute part of the modules in ``keep``."""
    feed = next(calibration.batches(program.batch or 1))
    working = [op for op in model.get_ordered_ops() if op.get_type_name() not in _NO_WORK]
    operators = [Operator(op.get_friendly_name(), _read(op), op.get_friendly_name()) for op in working]
    return kept(owners(program, operators, _values(model, feed), feed), keep)


def _read(op: Any) -> tuple[str, ...]:
    """The friendly names of what ``op`` reads, constants left out."""
    sources = (port.get_source_output().get_node() for port in op.inputs())
    return tuple(source.get_friendly_name() for source in sources if source.get_type_name() != "Constant")


def _values(model: Any, feed: dict[str, Array]) -> dict[str, Array]:
    """The first output of every operator of ``model`` on ``feed``, by friendly name, in float32."""
    shown = model.clone()
    working = [op for op in shown.get_ordered_ops() if op.get_type_name() not in _NO_WORK]
    shown.add_outputs([op.output(0) for op in working])  # but those that are outputs already
    names = [result.input_value(0).get_node().get_friendly_name() for result in shown.get_results()]
    compiled = load_openvino().Core().compile_model(shown, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    produced = compiled(feed)
    return {name: produced[index] for index, name in enumerate(names)} | feed


def _in_int8(op: Any) -> bool:
    """Whether a product reads an activation that was rounded to int8, and a weight that was."""
    return all(_rounded(port.get_source_output().get_node()) for port in list(op.inputs())[:2])


def _rounded(node: Any) -> bool:
    """Whether ``node`` rounds, or hands on by movements alone what is rounded, or holds integers."""
    while node.get_type_name() in ("Reshape", "Convert", "Multiply", "Subtract", "Transpose"):
        node = node.input_value(0).get_node()
    return node.get_type_name() == "FakeQuantize" or (
        node.get_type_name() == "Constant" and node.get_element_type().to_dtype().kind in "iu"
    )
