"""Target ``trt``: the kit from which a machine with TensorRT builds its engine: ``model.onnx`` and ``build.json``.

An engine fits one GPU and one TensorRT version, so none is shipped. If TensorRT for RTX is installed, the vendor's
parser reads the model and its compiler builds engines as evidence; neither needs a GPU.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ulsam_deploy.device import plugins
from ulsam_deploy.device.errors import ExportError, UnavailableError
from ulsam_deploy.device.findings import ArtifactFacts, DlaFacts, DlaNode, Reason, ReasonKind, TensorRTFacts
from ulsam_deploy.device.profiles import TensorRTProfile, device, devices
from ulsam_deploy.device.third_party import installed, versions
from ulsam_deploy.device.types import Artifact, Availability, EvidenceLevel
from ulsam_deploy.graph.interfaces import Exporter, ExportRequest, Study

from ..onnx.exporter import TOOLS
from . import evidence, trtexec

if TYPE_CHECKING:
    import onnx

    from ulsam_deploy.device.parity import Golden
    from ulsam_deploy.graph import Program

#: The largest size of a dynamic batch; the engine is tuned for 1, as on an edge device.
LARGEST_BATCH = 16


class TensorRTExporter(Exporter):
    """A kit of typed ONNX, build recipe and command lines."""

    target = "trt"
    extra = "trt"
    runtime = "tensorrt"
    precisions = ("fp32", "fp16", "int8")
    isolated = True
    for_devices = True

    def available(self) -> Availability:
        """Whether the ONNX tools are installed; TensorRT itself is only needed for evidence."""
        return installed(*TOOLS, extra=self.extra)

    def available_in(self, precision: str) -> Availability:
        """Whether the ONNX tools are installed, and for int8 ONNX Runtime, whose quantizer makes it."""
        return installed(*TOOLS, *(["onnxruntime"] if precision == "int8" else []), extra=self.extra)

    def check_device(self, name: str) -> None:
        """Accept every device with an NVIDIA GPU."""
        _profiles(name)

    def lowering(self, request: ExportRequest) -> Callable[..., Any]:
        """One softmax for each block, applied in the form that suits the precision; for a DLA all in 4-D."""
        from .. import lowerings
        from . import lowerings as trt_lowerings

        if request.dla:
            return trt_lowerings.accelerator
        return lowerings.separate if request.precision == "fp16" else lowerings.broadcast

    def export(self, program: Program, request: ExportRequest, folder: Path) -> Artifact:
        """Write ``model.onnx`` and ``build.json``; facts: ``operators``, ``lint``, and ``tensorrt``.

        The evidence level is ``COMPILED`` if TensorRT for RTX built an engine and no Jetson was requested (RTX cannot
        build for a Jetson's GPU), ``PARSED`` if its parser accepted the model, and ``EXPORTED`` if it is not installed.

        Raises:
            ExportError: The requested device is documented to refuse the model.
        """
        from ..onnx import model as onnx_model

        profiles = _profiles(request.device)
        model, said = _model(program, request)
        lint, dla = _lint(model, profiles), _dla(model, request)
        onnx_model.write(model, folder / "model.onnx")
        content = (folder / "model.onnx").read_bytes()
        builder = self._builder()
        recipe = _recipe(builder, program, request, content)
        accepting = [profile for name, profile in profiles.items() if not lint[name]]
        generations = dict.fromkeys(profile.generation for profile in accepting)
        recipe = dataclasses.replace(recipe, trtexec=trtexec.lines(recipe, tuple(generations)))
        (folder / "build.json").write_text(recipe.to_json(), encoding="utf-8")
        level, shown, trt = EvidenceLevel.EXPORTED, TensorRTFacts(), evidence.parser()
        if trt is not None:
            jetson = request.device.startswith("jetson")
            level, shown = evidence.evidence(trt, builder, content, recipe, jetson)
        kit = dataclasses.replace(shown, trtexec=dict(recipe.trtexec), dla=dla)
        return Artifact(
            target=self.target,
            precision=request.precision,
            files=("model.onnx", "build.json"),
            inputs=program.inputs,
            outputs=program.outputs,
            level=level,
            toolchain=versions(*onnx_model.PACKAGES, *([evidence.PARSER] if shown.engine else [])),
            facts=dataclasses.replace(onnx_model.with_graph(said, model), lint=lint, tensorrt=kit),
        )

    def study(self, artifact: Artifact, folder: Path, golden: Golden) -> Study | None:
        """Compare the parsed network, run in NumPy, with ``golden``; ``None`` if TensorRT for RTX is not installed."""
        trt = evidence.parser()
        if trt is None:
            return None
        from . import study as trt_study

        session = self._builder().BuildSession(trt)
        session.parse((folder / artifact.files[0]).read_bytes())
        found = trt_study.study(artifact, session, golden)
        kit = artifact.facts.tensorrt or TensorRTFacts()
        said = (evidence.words(kit), *_dla_words(kit.dla))
        notes = tuple(Reason(self.target, ReasonKind.STUDY_NOTE, sentence) for sentence in said)
        return dataclasses.replace(found, reasons=(*notes, *found.reasons))

    def _builder(self) -> Any:
        return plugins.load(plugins.RUNTIMES, self.runtime).builder


def _profiles(name: str) -> dict[str, TensorRTProfile]:
    """The TensorRT of the device ``name``, or of all devices by name.

    Raises :class:`UnavailableError` for a device without an NVIDIA GPU.
    """
    known = {found.name: found.tensorrt for found in devices().values() if found.tensorrt}
    if not name:
        return known
    profile = device(name).tensorrt
    if profile is None:
        raise UnavailableError(f"{name} has no NVIDIA GPU, so no TensorRT", expected=", ".join(known))
    return {name: profile}


def _model(program: Program, request: ExportRequest) -> tuple[onnx.ModelProto, ArtifactFacts]:
    """The ONNX model in the requested precision, for a DLA in its operators, and facts about the precision."""
    from ..onnx import model as onnx_model
    from ..onnx.exporter import in_precision
    from ..onnx.opset17 import to_opset_17
    from . import dla as trt_dla

    model = to_opset_17(onnx_model.to_model(program, 18))
    if request.dla:
        model = trt_dla.to_dla(model)
    return in_precision(model, program, request, "TENSORRT")


def _lint(model: onnx.ModelProto, profiles: dict[str, TensorRTProfile]) -> dict[str, tuple[str, ...]]:
    """What each device is documented to refuse.

    Raises :class:`ExportError` when every device refuses the model.
    """
    from .lint.operators import lint_tensorrt

    found = {name: tuple(item.message for item in lint_tensorrt(model, profile)) for name, profile in profiles.items()}
    if all(found.values()):
        name, messages = next(iter(found.items()))
        raise ExportError(f"TensorRT {profiles[name].version} ({name}) refuses the model: " + "; ".join(messages))
    return found


def _dla(model: onnx.ModelProto, request: ExportRequest) -> DlaFacts | None:
    """The forecast for a DLA, if one was requested; raises :class:`ExportError` if it refuses the model."""
    from .lint.dla import plan_dla

    if not request.dla:
        return None
    plan = plan_dla(model)
    if plan.findings:
        raise ExportError("a DLA refuses the model: " + "; ".join(item.message for item in plan.findings))
    fallbacks, doubts = (
        tuple(DlaNode(item.rule, item.node, item.message) for item in items) for items in (plan.fallbacks, plan.doubts)
    )
    return DlaFacts(plan.loadables, plan.placed, fallbacks, doubts)


def _dla_words(plan: DlaFacts | None) -> tuple[str, ...]:
    if plan is None:
        return ()
    names = ", ".join(f"{item.node} ({item.message})" for item in plan.fallbacks) or "none"
    count = f"{plan.loadables} loadable{'s' * (plan.loadables != 1)}"
    open_ = f"; {len(plan.doubts)} nodes have no documented rule" if plan.doubts else ""
    return (f"Forecast for the DLA: {count}; fallbacks to the GPU: {names}{open_}.",)


def _recipe(builder: Any, program: Program, request: ExportRequest, content: bytes) -> Any:
    def at(batch: int, shape: tuple[int | None, ...]) -> tuple[int, ...]:
        return tuple(batch if size is None else size for size in shape)

    profiles = {
        spec.name: builder.ShapeProfile(at(1, spec.shape), at(1, spec.shape), at(LARGEST_BATCH, spec.shape))
        for spec in program.inputs
        if None in spec.shape
    }
    return builder.EngineRecipe(hashlib.sha256(content).hexdigest(), request.precision, profiles, dla=request.dla)


EXPORTER = TensorRTExporter()
