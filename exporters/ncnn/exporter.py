"""Target ``ncnn``, by torch's ONNX and pnnx, for one input at a time."""

from __future__ import annotations

import shutil
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ulsam_deploy.device import plugins
from ulsam_deploy.device.elsewhere import job
from ulsam_deploy.device.elsewhere.limits import Limits, crash
from ulsam_deploy.device.errors import ExportError, UsageError
from ulsam_deploy.device.files import scratch
from ulsam_deploy.device.findings import ArtifactFacts
from ulsam_deploy.device.third_party import installed, versions
from ulsam_deploy.device.types import Artifact, Availability, EvidenceLevel
from ulsam_deploy.graph.interfaces import Exporter, ExportRequest

from ..onnx.exporter import OPSET
from ..onnx.exporter import TOOLS as ONNX_TOOLS
from . import param

if TYPE_CHECKING:
    from ulsam_deploy.graph import Program

#: The artifact's files; the runtime knows them by the ends of their names.
FILES = ("model.param", "model.bin", "model.options.json")


#: How each precision stores attention. Most processors cannot round to bfloat16, and there ncnn drops the lower bits:
#: that is what is forecast, wherever the artifact is made.
_ATTENTION = {"fp32": "", "fp16": "separate", "bf16": "cut"}


class NcnnExporter(Exporter):
    """ncnn's layers and weights, converted from our ONNX by pnnx, and named as the network's inputs and outputs."""

    target = "ncnn"
    extra = "ncnn"
    runtime = "ncnn"
    precisions = ("fp32", "fp16", "bf16")
    optional = True
    single = True  # ncnn's values have no axis for a batch

    def available(self) -> Availability:
        """Whether torch, the tools that write ONNX, and pnnx are installed."""
        return installed(*ONNX_TOOLS, "pnnx", extra=self.extra)

    def lowering(self, request: ExportRequest) -> Callable[..., Any]:
        """Scores by a dense convolution; what is stored in 16 bits adds ``a * x`` to ``x``.

        Groups, other than one for each channel, are slow in ncnn, and in bfloat16 on x86 (1.0.20261020) garbage.
        """
        from .. import lowerings

        return lowerings.dense_broadcast if request.precision == "fp32" else lowerings.dense_separate

    def export(self, program: Program, request: ExportRequest, folder: Path) -> Artifact:
        """Write ``model.param``, ``model.bin`` and ``model.options.json``.

        Facts: ``operators`` (with counts); the attention's form, where its values are stored in 16 bits.

        Raises:
            UsageError: The batch is not 1.
            ExportError: pnnx failed, or left layers that ncnn does not have; contains what it said.
        """
        from ..onnx import model as onnx_model

        if any(spec.shape[0] != 1 for spec in (*program.inputs, *program.outputs)):
            raise UsageError("ncnn takes one input at a time", expected="a batch of 1", todo="export with --batch 1")
        with scratch() as place:
            onnx_model.write(onnx_model.to_model(program, OPSET), place / "model.onnx")
            text = _converted(place, half=request.precision == "fp16")
            shutil.copyfile(place / "model.ncnn.bin", folder / FILES[1])
        layers = param.named(param.read(text), program.inputs, program.outputs)
        (folder / FILES[0]).write_text(param.written(layers), encoding="utf-8")
        engine = plugins.load(plugins.RUNTIMES, self.runtime)
        (folder / FILES[2]).write_text(engine.options_text(request.precision), encoding="utf-8")
        return Artifact(
            target=self.target,
            precision=request.precision,
            files=FILES,
            inputs=program.inputs,
            outputs=program.outputs,
            level=EvidenceLevel.EXPORTED,
            toolchain=versions(*onnx_model.PACKAGES, "pnnx"),
            facts=ArtifactFacts(
                operators=dict(sorted(Counter(layer.kind for layer in layers).items())),
                attention=_ATTENTION[request.precision],
            ),
        )

    def softmaxes(self, model: Path) -> tuple[str, ...]:
        """The results of the ``Softmax`` layers of the ``.param``."""
        layers = param.read(model.read_text(encoding="utf-8"))
        return tuple(layer.outputs[0] for layer in layers if layer.kind == "Softmax")

    def ablate(self, model: Path, chosen: Sequence[int], into: Path) -> bool:
        """Write the same layers with the ``chosen`` softmaxes multiplied by zero; False if it does not have them."""
        edited = param.ablated(param.read(model.read_text(encoding="utf-8")), chosen)
        if edited is None:
            return False
        (into / model.name).write_text(param.written(edited), encoding="utf-8")
        for path in plugins.load(plugins.RUNTIMES, self.runtime).files_of(model)[1:]:
            shutil.copyfile(path, into / path.name)
        return True


def _converted(place: Path, *, half: bool) -> str:
    """Convert ``model.onnx`` in ``place`` with pnnx; returns the ``.param``, beside which the ``.bin`` is."""
    found = find_spec("pnnx")
    assert found is not None
    assert found.origin is not None
    program = Path(found.origin).with_name("pnnx.exe" if sys.platform == "win32" else "pnnx")
    command = [str(program), "model.onnx", f"fp16={int(half)}"]
    doing = "pnnx's conversion"
    limits = Limits()
    code, words = job.run(command, place, {}, limits, doing)
    written = place / "model.ncnn.param"
    if code:
        raise crash(code, words, limits, doing)
    if not written.exists():
        raise ExportError(f"pnnx wrote no network: {words[-600:]}")
    text = written.read_text(encoding="utf-8")
    if foreign := sorted({layer.kind for layer in param.read(text) if "." in layer.kind}):
        raise ExportError(
            f"ncnn has no layer for {', '.join(foreign)}",
            expected="a network of layers that ncnn has",
            todo="export it for another target, such as tflite",
        )
    return text


EXPORTER = NcnnExporter()
