"""Checks an ONNX file, for each device profile, against what TensorRT's documentation says that it refuses.

The parsers are more tolerant than the documentation (TensorRT for RTX 1.7 read opset 99, DOUBLE and UINT8), so a model
may parse on one version and fail on the next. These rules are the documented limits, not the behaviour of one parser.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import onnx

from ulsam_deploy.device.profiles import TensorRTProfile

from .graph import LintFinding, LintGraph, attributes, label

FLOATS = frozenset({"FLOAT", "FLOAT16", "BFLOAT16"})
KNOWN = FLOATS | {"INT8", "INT32", "INT64", "BOOL"}
#: Operators of ONNX Runtime's integer form; TensorRT uses QuantizeLinear and DequantizeLinear instead.
INTEGER_FORM = frozenset({"QLinearConv", "QLinearMatMul", "ConvInteger", "MatMulInteger", "DynamicQuantizeLinear"})
#: Operators that compute in floating point only.
FLOATING = frozenset({"Conv", "Gemm", "Clip", "Softmax", "MaxPool", "AveragePool", "GlobalAveragePool"})
#: Operators whose operands must be of one type.
SAME_TYPE = frozenset({"Add", "Sub", "Mul", "Div", "Max", "Min", "Conv", "Gemm", "MatMul", "Concat"})

Rule = Callable[[LintGraph, onnx.NodeProto], str]


def lint_tensorrt(model: onnx.ModelProto, profile: TensorRTProfile) -> tuple[LintFinding, ...]:
    """Everything in ``model`` that a device with ``profile`` is documented to refuse."""
    graph = LintGraph.of(model)
    found = list(_model_findings(graph, profile))
    for node in model.graph.node:
        for name, rule in RULES.items():
            if message := rule(graph, node):
                found.append(LintFinding(name, label(node), message))
    return tuple(found)


def _model_findings(graph: LintGraph, profile: TensorRTProfile) -> Iterator[LintFinding]:
    low, high = profile.opsets
    if not low <= graph.opset <= high:
        yield LintFinding(
            "opset", "", f"the model has opset {graph.opset}; TensorRT {profile.version} reads {low} to {high}"
        )
    for name in graph.types:
        kind = graph.type_name(name)
        if kind not in KNOWN and kind != "unknown":
            yield LintFinding("type", name, f"tensor '{name}' is {kind}, which TensorRT does not compute in")
        elif kind == "BFLOAT16" and not profile.bf16:
            yield LintFinding(
                "type", name, f"tensor '{name}' is BFLOAT16, which TensorRT {profile.version} does not have"
            )


def _max_pool(graph: LintGraph, node: onnx.NodeProto) -> str:
    if node.op_type != "MaxPool":
        return ""
    if len(node.output) > 1 and node.output[1]:
        return "MaxPool with its second output, Indices, is not supported"
    dilations = attributes(node).get("dilations", [1])
    if any(value != 1 for value in dilations):
        return f"MaxPool with dilations {list(dilations)} is not supported"
    rank = len(graph.shapes.get(node.input[0], (0,) * 4))
    return "" if rank in (4, 5) else f"MaxPool on a tensor of rank {rank}; 2-D and 3-D pooling are supported"


def _one_type(graph: LintGraph, node: onnx.NodeProto) -> str:
    kinds = dict.fromkeys(graph.type_name(name) for name in node.input if name)
    if node.op_type not in SAME_TYPE or len(set(kinds) - {"unknown"}) < 2:
        return ""
    return f"{node.op_type} has operands of different types: {', '.join(kinds)}"


def _floating(graph: LintGraph, node: onnx.NodeProto) -> str:
    kind = graph.type_name(node.input[0]) if node.input else "unknown"
    if node.op_type not in FLOATING or kind in FLOATS or kind == "unknown":
        return ""
    return f"{node.op_type} on {kind}; it computes in floating point alone"


def _integer_form(graph: LintGraph, node: onnx.NodeProto) -> str:  # noqa: ARG001
    if node.op_type not in INTEGER_FORM:
        return ""
    return f"{node.op_type} is not supported: int8 is expressed by QuantizeLinear and DequantizeLinear"


def _quantized(graph: LintGraph, node: onnx.NodeProto) -> str:
    if node.op_type not in ("QuantizeLinear", "DequantizeLinear"):
        return ""
    if node.op_type == "DequantizeLinear" and graph.type_name(node.input[0]) == "INT32":
        return "DequantizeLinear of INT32 (a quantized bias) is not supported: leave biases in floating point"
    if len(node.input) < 3 or not node.input[2]:
        return ""
    zero = graph.constant(node.input[2])
    if zero is None or np.any(zero != 0):
        return f"{node.op_type} has a zero point other than 0: quantize symmetrically"
    return f"{node.op_type} to UINT8: quantize to INT8" if zero.dtype == np.uint8 else ""


def _batch_norm(graph: LintGraph, node: onnx.NodeProto) -> str:  # noqa: ARG001
    training = node.op_type == "BatchNormalization" and attributes(node).get("training_mode", 0)
    return "BatchNormalization in training mode: export the network in evaluation mode" if training else ""


def _slice(graph: LintGraph, node: onnx.NodeProto) -> str:
    computed = (
        node.op_type == "Slice" and len(node.input) > 3 and node.input[3] and node.input[3] not in graph.constants
    )
    return "Slice with computed axes: they must be constant" if computed else ""


RULES: dict[str, Rule] = {
    "max-pool": _max_pool,
    "one-type": _one_type,
    "floating": _floating,
    "integer-form": _integer_form,
    "quantized": _quantized,
    "batch-norm": _batch_norm,
    "slice-axes": _slice,
}
