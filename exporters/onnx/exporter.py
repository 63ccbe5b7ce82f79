"""Target ``onnx``: one self-contained ``model.onnx`` for ONNX Runtime."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ulsam_deploy.device.findings import ArtifactFacts
from ulsam_deploy.device.third_party import installed, versions
from ulsam_deploy.device.types import Artifact, Availability, EvidenceLevel
from ulsam_deploy.graph.interfaces import Exporter, ExportRequest

if TYPE_CHECKING:
    import onnx

    from ulsam_deploy.graph import Program

#: The newest opset that torch's dynamo exporter writes without converting afterwards.
OPSET = 18
#: The packages that write an ONNX model.
TOOLS = ("torch", "onnx", "onnxscript", "onnxsim")


class OnnxExporter(Exporter):
    """ONNX through ``torch.onnx.export(dynamo=True)`` and onnxsim."""

    target = "onnx"
    extra = "onnx"
    runtime = "onnxruntime"
    precisions = ("fp32", "fp16", "int8")
    lowerings = ("broadcast", "dense_broadcast", "spread", "dense_spread", "take")

    def available(self) -> Availability:
        """Whether torch, onnx, onnxscript and onnxsim are installed."""
        return installed(*TOOLS, extra=self.extra)

    def available_in(self, precision: str) -> Availability:
        """Whether the tools are installed, and for int8 ONNX Runtime, whose quantizer makes it."""
        return installed(*TOOLS, *(["onnxruntime"] if precision == "int8" else []), extra=self.extra)

    def weight_levels(self) -> int:
        """64 where this processor has no int8 dot product, so that sums of two products fit in 16 bits."""
        from ..dot_product import adds_pairs_in_16_bits

        return 64 if adds_pairs_in_16_bits() else 127

    def lowering(self, request: ExportRequest) -> Callable[..., Any]:
        """In fp32 the fastest form of each block; otherwise one softmax, applied as suits the precision."""
        from .. import lowerings

        if request.precision == "fp32":
            return lowerings.by_geometry(self.target, request)
        return lowerings.separate if request.precision == "fp16" else lowerings.broadcast

    def export(self, program: Program, request: ExportRequest, folder: Path) -> Artifact:
        """Write ``model.onnx``.

        Facts: ``opset``, ``operators`` (with counts), the blocks' forms, and what int8 left in floating point.
        """
        from .. import lowerings
        from . import model as onnx_model

        model, said = in_precision(onnx_model.to_model(program, OPSET), program, request, "ONNX_RUNTIME")
        forms = lowerings.forms(self.target, program, request)
        onnx_model.write(model, folder / "model.onnx")
        return Artifact(
            target=self.target,
            precision=request.precision,
            files=("model.onnx",),
            inputs=program.inputs,
            outputs=program.outputs,
            level=EvidenceLevel.EXPORTED,
            toolchain=versions(*onnx_model.PACKAGES),
            facts=dataclasses.replace(onnx_model.with_graph(said, model), lowerings=forms),
        )

    def softmaxes(self, model: Path) -> tuple[str, ...]:
        """The results of the ``Softmax`` nodes of the graph."""
        import onnx

        from . import ablation

        return tuple(node.output[0] for node in ablation.softmaxes(onnx.load(model, load_external_data=False)))

    def ablate(self, model: Path, chosen: Sequence[int], into: Path) -> bool:
        """Write the same model with the ``chosen`` softmaxes replaced by zero; False if it does not have them."""
        import onnx

        from . import ablation

        if len(self.softmaxes(model)) <= max(chosen):
            return False
        onnx.save(ablation.ablated(onnx.load(model), chosen), into / model.name)
        return True


def in_precision(
    model: onnx.ModelProto, program: Program, request: ExportRequest, scheme: str
) -> tuple[onnx.ModelProto, ArtifactFacts]:
    """Convert ``model`` to ``request.precision``; also gives facts about it.

    ``scheme`` names the engine's :class:`~.int8.Scheme`.
    """
    if request.precision == "fp16":
        from . import fp16

        return fp16.to_fp16(model), ArtifactFacts(attention="separate")
    if request.precision == "int8":
        from . import int8

        assert request.calibration is not None
        how = getattr(int8, scheme)
        return int8.to_int8(model, program, request.calibration, request.keep, how)
    return model, ArtifactFacts()


EXPORTER = OnnxExporter()
