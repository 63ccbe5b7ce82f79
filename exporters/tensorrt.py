"""Target ``trt``: the kit that a TensorRT machine builds its engine from: ``model.onnx`` and ``build.json``.

An engine fits one GPU and one TensorRT version, so none is shipped. Where TensorRT for RTX is installed, the vendor's
parser reads the model and its compiler builds an engine, without a GPU, as evidence.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ulsam_deploy import plugins
from ulsam_deploy.contracts import Artifact, Availability, Exporter, ExportRequest, Tier
from ulsam_deploy.third_party import installed, quiet, versions, words_of

from . import trtexec

if TYPE_CHECKING:
    from ulsam_deploy.program import Program

#: What a dynamic batch may be; tuned for 1, as on an edge device.
LARGEST_BATCH = 16
#: TensorRT for RTX builds for this without a GPU: the GA10x desktop parts, the nearest to Orin (SM87) that it knows.
EVIDENCE_CAPABILITY = "SM86"
PARSER = "tensorrt_rtx"


class TensorRTExporter(Exporter):
    """A kit of typed ONNX, build recipe and command lines."""

    target = "trt"
    extra = "trt"
    runtime = "tensorrt"
    precisions = ("fp32",)

    def available(self) -> Availability:
        """Whether the ONNX tools are installed; TensorRT itself is only needed for evidence."""
        return installed("torch", "onnx", "onnxscript", "onnxsim", extra=self.extra)

    def lowering(self, request: ExportRequest) -> Callable[..., Any]:  # noqa: ARG002
        """One softmax a block and a broadcast multiply."""
        from . import lowerings

        return lowerings.broadcast

    def export(self, program: Program, request: ExportRequest, folder: Path) -> Artifact:
        """Write ``model.onnx`` and ``build.json``; facts: ``opset``, ``operators``, ``trtexec``, ``evidence``.

        The tier is ``COMPILED`` when TensorRT for RTX built an engine and no Jetson was asked for (RTX has no Jetson
        GPU among its targets), ``PARSED`` when its parser accepted the model, ``EXPORTED`` where it isn't installed.
        """
        from . import onnx_model
        from .opset17 import to_opset_17

        model = to_opset_17(onnx_model.to_model(program, 18))
        onnx_model.write(model, folder / "model.onnx")
        content = (folder / "model.onnx").read_bytes()
        builder = plugins.load(plugins.RUNTIMES, self.runtime).builder
        found = onnx_model.facts(model)
        recipe = _recipe(builder, program, request, content, _generations(found["opset"], request.device))
        (folder / "build.json").write_text(recipe.to_json(), encoding="utf-8")
        tier, evidence = _evidence(builder, content, recipe, request.device)
        return Artifact(
            target=self.target,
            precision=request.precision,
            files=("model.onnx", "build.json"),
            inputs=program.inputs,
            outputs=program.outputs,
            tier=tier,
            toolchain=versions(*onnx_model.PACKAGES, *([PARSER] if evidence else [])),
            facts={**found, "trtexec": dict(recipe.trtexec), "evidence": evidence},
        )


def _generations(opset: int, device: str) -> tuple[str, ...]:
    """The generations of TensorRT to write command lines for: the device's, or all that read ``opset``."""
    if device in trtexec.DEVICES:
        return (trtexec.DEVICES[device],)
    return tuple(name for name in trtexec.GENERATIONS if opset <= 17 or name != "8.6")


def _recipe(
    builder: Any, program: Program, request: ExportRequest, content: bytes, generations: tuple[str, ...]
) -> Any:
    def at(batch: int, shape: tuple[int | None, ...]) -> tuple[int, ...]:
        return tuple(batch if size is None else size for size in shape)

    profiles = {
        spec.name: builder.Profile(at(1, spec.shape), at(1, spec.shape), at(LARGEST_BATCH, spec.shape))
        for spec in program.inputs
        if None in spec.shape
    }
    recipe = builder.Recipe(hashlib.sha256(content).hexdigest(), request.precision, profiles)
    return dataclasses.replace(recipe, trtexec=trtexec.lines(recipe, generations))


def _evidence(builder: Any, content: bytes, recipe: Any, device: str) -> tuple[Tier, dict[str, Any]]:
    """What the vendor's own tools made of the model, as far as they are installed."""
    if not installed(PARSER, extra="trt").usable:
        return Tier.EXPORTED, {}
    with words_of("TensorRT for RTX", "be loaded"), quiet():
        import tensorrt_rtx
    built = builder.build(tensorrt_rtx, content, recipe, capability=EVIDENCE_CAPABILITY)
    jetson = device.startswith("jetson")
    evidence = {
        "engine": f"TensorRT for RTX {tensorrt_rtx.__version__}",
        "compute_capability": EVIDENCE_CAPABILITY,
        "network_layers": dict(built.parsed.layers),
        "engine_layers": dict(built.engine_layers),
    }
    return (Tier.PARSED if jetson else Tier.COMPILED), evidence


EXPORTER = TensorRTExporter()
