"""Target ``openvino``: the IR pair ``model.xml`` and ``model.bin``, made from the captured program; fp32 stays fp32."""

from __future__ import annotations

import dataclasses
import re
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ulsam_deploy.device.findings import ArtifactFacts
from ulsam_deploy.device.third_party import installed, load_openvino, quiet, versions, words_of
from ulsam_deploy.device.types import Artifact, Availability, EvidenceLevel
from ulsam_deploy.graph.interfaces import Exporter, ExportRequest

if TYPE_CHECKING:
    from ulsam_deploy.graph import Program


class OpenVinoExporter(Exporter):
    """OpenVINO IR by ``openvino.convert_model(ExportedProgram)``, without ONNX."""

    target = "openvino"
    extra = "openvino"
    runtime = "openvino"
    precisions = ("fp32", "fp16", "int8")
    isolated = True
    lowerings = ("broadcast", "dense_broadcast", "spread", "dense_spread", "take")

    def available(self) -> Availability:
        """Whether torch and openvino are installed."""
        return installed("torch", "openvino", extra=self.extra)

    def available_in(self, precision: str) -> Availability:
        """Whether torch and openvino are installed, and for int8 NNCF, which makes it."""
        return installed("torch", "openvino", *(["nncf"] if precision == "int8" else []), extra=self.extra)

    def weight_levels(self) -> int:
        """63 where this processor has no int8 dot product, so that sums of two products fit in 16 bits."""
        from ..dot_product import adds_pairs_in_16_bits

        return 63 if adds_pairs_in_16_bits() else 127

    def lowering(self, request: ExportRequest) -> Callable[..., Any]:
        """In fp32 the fastest form of each block; otherwise one softmax and a broadcast multiplication."""
        from .. import lowerings

        return lowerings.by_geometry(self.target, request) if request.precision == "fp32" else lowerings.broadcast

    def export(self, program: Program, request: ExportRequest, folder: Path) -> Artifact:
        """Write ``model.xml`` and ``model.bin``.

        Facts: ``operators`` (with counts), the blocks' forms, and what int8 left in floating point. For ``fp16``,
        weights are stored in float16, and the engine computes in the type that suits its machine best.
        """
        from .. import lowerings
        from ..torch_noise import TORCH_WARNINGS

        said = ArtifactFacts(attention="" if request.precision == "fp32" else "float")

        with words_of("OpenVINO", "convert the network"), quiet(*TORCH_WARNINGS):
            openvino = load_openvino()
            model = openvino.convert_model(program.exported)
            _set_ports(model, program)
            if request.precision == "int8":
                from . import precision as openvino_precision

                assert request.calibration is not None
                model, said = openvino_precision.to_int8(model, program, request.calibration, request.keep)
                _set_ports(model, program)
            _stable_names(model)
            openvino.save_model(model, folder / "model.xml", compress_to_fp16=request.precision == "fp16")
        return Artifact(
            target=self.target,
            precision=request.precision,
            files=("model.xml", "model.bin"),
            inputs=program.inputs,
            outputs=program.outputs,
            level=EvidenceLevel.EXPORTED,
            toolchain=versions("torch", "openvino", *(["nncf"] if request.precision == "int8" else [])),
            facts=dataclasses.replace(
                said,
                operators=dict(sorted(Counter(op.get_type_name() for op in model.get_ops()).items())),
                lowerings=lowerings.forms(self.target, program, request),
            ),
        )

    def softmaxes(self, model: Path) -> tuple[str, ...]:
        """The ``Softmax`` operations of the model."""
        from . import ablation

        with words_of("OpenVINO", "read the model"), quiet():
            return tuple(op.get_friendly_name() for op in ablation.softmaxes(ablation.read(model)))

    def ablate(self, model: Path, chosen: Sequence[int], into: Path) -> bool:
        """Write the same model with the ``chosen`` softmaxes multiplied by zero; False if it does not have them."""
        from . import ablation

        with words_of("OpenVINO", "take a block's attention out"), quiet():
            return ablation.write_ablated(model, chosen, into / model.name)


def _set_ports(model: Any, program: Program) -> None:
    """Name inputs and outputs and give them the program's shapes: the converter leaves every axis dynamic."""
    for port, spec in zip(model.inputs, program.inputs):
        port.get_tensor().set_names({spec.name})
    for port, spec in zip(model.outputs, program.outputs):
        port.get_tensor().set_names({spec.name})
    model.reshape({spec.name: [-1 if size is None else size for size in spec.shape] for spec in program.inputs})


def _stable_names(model: Any) -> None:
    """Replace the names that OpenVINO numbers by process-wide counters (``Multiply_24136``), so that bytes are stable.

    A folded constant keeps the name of the operator that it came from, so a name need not match the operator's type.
    """
    model.set_friendly_name("model")
    for index, op in enumerate(model.get_ordered_ops()):
        if op.get_type_name() != "Parameter" and re.fullmatch(r"[A-Z][A-Za-z]*_\d+", op.get_friendly_name()):
            op.set_friendly_name(f"{op.get_type_name()}_at_{index}")


EXPORTER = OpenVinoExporter()
