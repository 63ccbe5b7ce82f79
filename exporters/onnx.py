"""Target ``onnx``: one self-contained ``model.onnx`` for ONNX Runtime."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ulsam_deploy.contracts import Artifact, Availability, Exporter, ExportRequest, Tier
from ulsam_deploy.third_party import installed, versions

if TYPE_CHECKING:
    from ulsam_deploy.program import Program

#: The newest opset that torch's dynamo exporter writes without converting afterwards.
OPSET = 18


class OnnxExporter(Exporter):
    """ONNX through ``torch.onnx.export(dynamo=True)`` and onnxsim."""

    target = "onnx"
    extra = "onnx"
    runtime = "onnxruntime"
    precisions = ("fp32",)

    def available(self) -> Availability:
        """Whether torch, onnx, onnxscript and onnxsim are installed."""
        return installed("torch", "onnx", "onnxscript", "onnxsim", extra=self.extra)

    def lowering(self, request: ExportRequest) -> Callable[..., Any]:  # noqa: ARG002
        """One softmax a block and a broadcast multiply."""
        from . import lowerings

        return lowerings.broadcast

    def export(self, program: Program, request: ExportRequest, folder: Path) -> Artifact:
        """Write ``model.onnx``; facts: ``opset`` and ``operators`` (operator to count)."""
        from . import onnx_model

        model = onnx_model.to_model(program, OPSET)
        onnx_model.write(model, folder / "model.onnx")
        return Artifact(
            target=self.target,
            precision=request.precision,
            files=("model.onnx",),
            inputs=program.inputs,
            outputs=program.outputs,
            tier=Tier.EXPORTED,
            toolchain=versions(*onnx_model.PACKAGES),
            facts=onnx_model.facts(model),
        )


EXPORTER = OnnxExporter()
