"""One ONNX file taken through the pipeline: what is fused, how exact that is, and the parity of each artifact."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from torch import nn

from ulsam_deploy.device.errors import UlsamError
from ulsam_deploy.device.findings import Verdict
from ulsam_deploy.device.progress import Progress
from ulsam_deploy.device.types import Refusal
from ulsam_deploy.exporting.network import network_stages
from ulsam_deploy.exporting.options import ExportOptions
from ulsam_deploy.exporting.pipeline import export

from .writers import Writer


@dataclass(frozen=True)
class Seen:
    """``words``: why it could not be read, or be written by the exporter.

    ``artifacts``: verdict and error in noise floors by target.
    """

    fused: int = 0
    refusals: tuple[Refusal, ...] = ()
    read: float = 0.0
    rewritten: float = 0.0
    artifacts: Mapping[str, tuple[str, float]] = field(default_factory=dict)
    words: str = ""


def seen(model: nn.Module, shape: tuple[int, ...], writer: Writer, targets: Sequence[str] = ()) -> Seen:
    """Write ``model`` by ``writer``, read it back, raise it, prove it, and export it to ``targets``."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model.onnx")
        try:
            writer.write(model, [shape], path)
        except Exception as error:  # an exporter's own refusal: there is no file to be read
            return Seen(words=f"not written: {type(error).__name__}")
        options = ExportOptions(
            path,
            targets=tuple(targets) or ("onnx",),
            output=Path(folder, "model.bundle"),
            batch=writer.batch,
            cache=False,
        )
        try:
            if targets:
                return _exported(options)
            network = network_stages(options, Progress(quiet=True))
            source, fused = network.loaded().source, network.fused()
            assert source.reference
            read = fused.proof.hold(source.reference, "reading the model")
            rewritten = fused.proof.check(fused.program, "fusing")
            return Seen(len(fused.program.blocks), fused.program.refusals, read, rewritten)
        except UlsamError as error:
            return Seen(words=error.found.splitlines()[0])


def _exported(options: ExportOptions) -> Seen:
    result = export(options, Progress(quiet=True))
    found: dict[str, tuple[str, float]] = {
        outcome.target: (outcome.error.found.splitlines()[0][:80], float("nan"))
        for outcome in result.outcomes
        if outcome.error
    }
    if result.bundle is None:
        return Seen(words="; ".join(words for words, _ in found.values()))
    for record in result.bundle.manifest.artifacts:
        errors = [output.error for output in record.evidence.parity.outputs] if record.evidence.parity else []
        worst = max((e for e in errors if e is not None), default=float("nan"))
        found[record.target] = (Verdict(record.evidence.verdict).value, worst)
    card = result.bundle.manifest.model
    return Seen(len(card.blocks), card.refusals, artifacts=found)
