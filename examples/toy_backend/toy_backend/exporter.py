"""Makes ``model.pt2``: the lowered network as ``torch.export.save`` writes it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ulsam_deploy.device.third_party import installed, versions, words_of
from ulsam_deploy.device.types import Artifact, Availability, EvidenceLevel
from ulsam_deploy.graph.interfaces import Exporter, ExportRequest

if TYPE_CHECKING:
    from torch import Tensor

    from ulsam_deploy.graph import Program


class Pt2Exporter(Exporter):
    """One file, in fp32."""

    target = "pt2"
    extra = "export"
    runtime = "pt2"
    precisions = ("fp32",)

    def available(self) -> Availability:
        """Whether torch is installed."""
        return installed("torch", extra=self.extra)

    def lowering(self, request: ExportRequest) -> Callable[..., Any]:  # noqa: ARG002
        """The same for every request."""
        return attention

    def export(self, program: Program, request: ExportRequest, folder: Path) -> Artifact:
        """Write ``model.pt2``."""
        import torch

        with words_of("torch.export", "save the network"):
            torch.export.save(program.exported, folder / "model.pt2")
        return Artifact(
            target=self.target,
            precision=request.precision,
            files=("model.pt2",),
            inputs=program.inputs,
            outputs=program.outputs,
            level=EvidenceLevel.EXPORTED,
            toolchain=versions("torch"),
        )


def attention(
    x: Tensor, gate_scale: Tensor, gate_bias: Tensor, score_weight: Tensor, score_bias: Tensor, subspaces: int
) -> Tensor:
    """Compute one ULSAM block on ``x`` [N, C, H, W], in operators that suit this target.

    ``gate_scale`` [C, 1, 1, 1] and ``gate_bias`` [C]: a depthwise affine; ``score_weight`` [g, C/g, 1, 1] and
    ``score_bias`` [g]: a grouped 1x1 convolution.
    """
    import torch
    import torch.nn.functional as F

    _, channels, height, width = x.shape
    gate = F.relu(F.conv2d(x, gate_scale, gate_bias, groups=channels))
    pooled = F.max_pool2d(gate, 3, 1, 1)
    scores = F.relu(F.conv2d(pooled, score_weight, score_bias, groups=subspaces))
    maps = torch.softmax(scores.flatten(2), -1).unflatten(-1, (height, width))
    return x * (1 + maps).repeat_interleave(channels // subspaces, 1)


EXPORTER = Pt2Exporter()
