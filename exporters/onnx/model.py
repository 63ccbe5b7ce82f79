"""Makes an ONNX model from a lowered program, for ONNX and TensorRT: simplified, checked, without local paths."""

from __future__ import annotations

import dataclasses
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import onnx
import torch

from ulsam_deploy.device.errors import ExportError
from ulsam_deploy.device.findings import ArtifactFacts
from ulsam_deploy.device.third_party import quiet, words_of

from ..torch_noise import TORCH_WARNINGS
from .simplify import simplified

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
    model = simplified(exported.model_proto)
    if found := {entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")} - {opset}:
        raise ExportError(f"torch.onnx wrote opset {max(found)}", expected=f"opset {opset}")
    return model


def write(model: onnx.ModelProto, path: Path) -> None:
    """Write ``model`` with deterministic bytes, which protobuf does not guarantee by default."""
    path.write_bytes(model.SerializeToString(deterministic=True))


def with_graph(said: ArtifactFacts, model: onnx.ModelProto) -> ArtifactFacts:
    """``said`` with the operator counts and the ``opset`` of ``model``."""
    opset = next(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx"))
    operators = dict(sorted(Counter(node.op_type for node in model.graph.node).items()))
    return dataclasses.replace(said, operators=operators, extra={**said.extra, "opset": opset})
