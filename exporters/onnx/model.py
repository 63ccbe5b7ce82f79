"""Makes an ONNX model from a lowered program, for ONNX and TensorRT: simplified, checked, without local paths."""

from __future__ import annotations

import dataclasses
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import onnx
import torch

from ulsam_deploy.device.errors import ExportError
from ulsam_deploy.device.findings import ArtifactFacts
from ulsam_deploy.device.third_party import quiet, words_of

from ..torch_noise import TORCH_WARNINGS
from .simplify import simplify

if TYPE_CHECKING:
    from ulsam_deploy.graph import Program

#: Packages whose versions determine the bytes of the model.
PACKAGES = ("torch", "onnx", "onnxscript", "onnxsim")


def to_model(program: Program, opset: int) -> onnx.ModelProto:
    """Make the ONNX model of ``program`` with its input and output names; a dynamic batch axis is called ``batch``.

    Raises:
        ExportError: The exporter, the simplifier or the checker failed; contains its message.
    """
    with words_of("torch.onnx", "export the network"), quiet(*TORCH_WARNINGS):
        exported = torch.onnx.export(
            program.exported,
            dynamo=True,
            external_data=False,
            opset_version=opset,
            input_names=[spec.name for spec in program.inputs],
            output_names=[spec.name for spec in program.outputs],
            verbose=False,
        )
    if exported is None:  # pragma: no cover - the exporter returns a program whenever dynamo=True
        raise ExportError("torch.onnx returned no model")
    model = simplify(exported.model_proto)
    if found := {entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")} - {opset}:
        raise ExportError(f"torch.onnx wrote opset {max(found)}", expected=f"opset {opset}")
    strip(model)
    _name_batch(model)
    return check(model)


def check(model: onnx.ModelProto) -> onnx.ModelProto:
    """Run ONNX's full checker and strict shape inference; returns ``model`` with inferred shapes."""
    with words_of("the ONNX checker", "accept the model"):
        onnx.checker.check_model(model, full_check=True)
        return onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True, data_prop=True)


def write(model: onnx.ModelProto, path: Path) -> None:
    """Write ``model`` with deterministic bytes, which protobuf does not guarantee by default."""
    path.write_bytes(model.SerializeToString(deterministic=True))


def with_graph(said: ArtifactFacts, model: onnx.ModelProto) -> ArtifactFacts:
    """``said`` with the operator counts and the ``opset`` of ``model``."""
    opset = next(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx"))
    operators = dict(sorted(Counter(node.op_type for node in model.graph.node).items()))
    return dataclasses.replace(said, operators=operators, extra={**said.extra, "opset": opset})


def strip(message: Any) -> None:
    """Remove every ``metadata_props`` and ``doc_string``: torch writes stack traces with local paths there."""
    for field, value in message.ListFields():
        if field.name in ("metadata_props", "doc_string"):
            message.ClearField(field.name)
        elif field.message_type is not None:
            for child in (value,) if hasattr(value, "ListFields") else value:
                strip(child)


def _name_batch(model: onnx.ModelProto) -> None:
    """Rename torch's symbol for the dynamic batch (such as ``s77``) to ``batch``."""
    values = [*model.graph.input, *model.graph.output, *model.graph.value_info]
    dims = [dim for value in values for dim in value.type.tensor_type.shape.dim]
    symbols = {value.type.tensor_type.shape.dim[0].dim_param for value in model.graph.input} - {""}
    for dim in dims:
        if dim.dim_param in symbols:
            dim.dim_param = "batch"
