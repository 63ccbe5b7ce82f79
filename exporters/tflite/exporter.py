"""Target ``tflite``: one ``model.tflite`` with NHWC inputs, by litert-torch. Static batch only."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ulsam_deploy.device.errors import UsageError
from ulsam_deploy.device.findings import ArtifactFacts
from ulsam_deploy.device.third_party import installed, quiet, versions, words_of
from ulsam_deploy.device.types import Artifact, Availability, EvidenceLevel, TensorSpec
from ulsam_deploy.graph.interfaces import Exporter, ExportRequest

if TYPE_CHECKING:
    from ulsam_deploy.graph import Program


#: The packages that write a LiteRT model.
TOOLS = ("torch", "litert_torch", "ai_edge_litert")


class TFLiteExporter(Exporter):
    """LiteRT flatbuffer by ``litert_torch.convert``; inputs and 4-D outputs are NHWC."""

    target = "tflite"
    extra = "tflite"
    runtime = "tflite"
    precisions = ("fp32", "fp16", "int8", "int8-dynamic")
    slow = True
    isolated = True
    lowerings = ("channels_last", "dense_channels_last")
    dynamic_batch = False  # litert-torch refuses dynamic shapes, and the runtime gave wrong results after resizing

    def available(self) -> Availability:
        """Whether torch, litert-torch and ai-edge-litert are installed."""
        return installed(*TOOLS, extra=self.extra)

    def available_in(self, precision: str) -> Availability:
        """Whether the tools are installed, and below fp32 ai-edge-quantizer, which makes all other precisions."""
        return installed(*TOOLS, *(["ai_edge_quantizer"] if precision != "fp32" else []), extra=self.extra)

    def lowering(self, request: ExportRequest) -> Callable[..., Any]:
        """A form in 4-D, without TRANSPOSE, RESHAPE or BROADCAST_TO; in fp32 the fastest such form of each block."""
        from .. import lowerings

        return lowerings.by_geometry(self.target, request) if request.precision == "fp32" else lowerings.channels_last

    def export(self, program: Program, request: ExportRequest, folder: Path) -> Artifact:
        """Write ``model.tflite``.

        Facts: ``operators`` (with counts), the blocks' forms, and what int8 left in floating point.

        Raises:
            UsageError: The batch is dynamic.
        """
        from .. import lowerings

        if any(size is None for spec in program.inputs for size in spec.shape):
            raise UsageError("TFLite artifacts are static", expected="a fixed batch", todo="export with --batch 1 or N")
        inputs, outputs = _channels_last(program.inputs), _channels_last(program.outputs)
        content, said = _convert(program, inputs, outputs), ArtifactFacts()
        if request.precision != "fp32":
            from . import precision as tflite_precision

            content, said = tflite_precision.to_precision(content, program, request, inputs)
        (folder / "model.tflite").write_bytes(content)
        return Artifact(
            target=self.target,
            precision=request.precision,
            files=("model.tflite",),
            inputs=inputs,
            outputs=outputs,
            level=EvidenceLevel.EXPORTED,
            toolchain=versions("torch", "litert-torch", "litert-converter", "ai-edge-litert", *_quantizer(request)),
            facts=dataclasses.replace(
                said, operators=_operators(content), lowerings=lowerings.forms(self.target, program, request)
            ),
        )

    def rewrites(self) -> Mapping[Any, Callable[..., Any]]:
        """What litert-torch does not convert, or converts wrongly, in other operators."""
        from .rewrites import REWRITES

        return REWRITES

    def softmaxes(self, model: Path) -> tuple[str, ...]:
        """The results of the softmaxes in the model, including those written as ``exp / sum``."""
        from . import ablation
        from . import model as tflite_model

        return tuple(str(op.outputs[0]) for op in ablation.softmaxes(tflite_model.read(model.read_bytes())))

    def ablate(self, model: Path, chosen: Sequence[int], into: Path) -> bool:
        """Write the same model with the ``chosen`` softmaxes replaced by zero; False if it does not have them."""
        from . import ablation

        edited = ablation.ablated(model.read_bytes(), chosen)
        if edited is None:
            return False
        (into / model.name).write_bytes(edited)
        return True


def _quantizer(request: ExportRequest) -> list[str]:
    return [] if request.precision == "fp32" else ["ai-edge-quantizer"]


def _channels_last(specs: tuple[TensorSpec, ...]) -> tuple[TensorSpec, ...]:
    return tuple(dataclasses.replace(spec, layout="NHWC") if len(spec.shape) == 4 else spec for spec in specs)


def _convert(program: Program, inputs: tuple[TensorSpec, ...], outputs: tuple[TensorSpec, ...]) -> bytes:
    from ..torch_noise import LITERT_WARNINGS, TORCH_WARNINGS

    with words_of("litert-torch", "convert the network"), quiet(*TORCH_WARNINGS, *LITERT_WARNINGS):
        import litert_torch

        from .nhwc import NhwcIO, example

        litert_torch.config.show_progress = False
        module = NhwcIO(program.exported.module(), inputs, outputs)
        converted = litert_torch.convert(module, sample_kwargs={spec.name: example(spec) for spec in inputs})
        return bytes(converted.model_content())


def _operators(content: bytes) -> dict[str, int]:
    """The count of each operator, as the interpreter lists them without delegates."""
    with words_of("LiteRT", "open what litert-torch wrote"), quiet():
        from ai_edge_litert.interpreter import Interpreter, OpResolverType

        plain = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
        interpreter = Interpreter(model_content=content, experimental_op_resolver_type=plain)
        return dict(sorted(Counter(op["op_name"] for op in interpreter._get_ops_details()).items()))


EXPORTER = TFLiteExporter()
