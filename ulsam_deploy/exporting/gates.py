"""Reads at the watched attention gates of a running artifact how much of each is there."""

from __future__ import annotations

from collections.abc import Callable

from ulsam_deploy.device.arrays import ArrayMap
from ulsam_deploy.device.errors import UlsamError
from ulsam_deploy.device.findings import AttentionState, Report
from ulsam_deploy.device.parity import Golden, Reading
from ulsam_deploy.exporting.prepare import Prepared

__all__ = ["read_gates", "wants_reading"]


def wants_reading(prepared: Prepared, report: Report | None, precision: str) -> bool:
    """Whether gates are to be read: in float32, only where the outputs, by ``report``, leave something open."""
    kept = report is not None and all(gate.state is AttentionState.KEPT for gate in report.gates)
    return bool(prepared.golden.gates) and not (precision == "fp32" and kept)


def read_gates(
    prepared: Prepared, golden: Golden, values: Callable[[ArrayMap], ArrayMap]
) -> tuple[Reading | None, ...]:
    """The retention of every watched gate as read in an artifact.

    Args:
        prepared: The network.
        golden: The golden set of the artifact's precision.
        values: Gives every tensor inside the artifact for a batch.

    Returns:
        One reading for each gate, ``None`` where it cannot be read; empty if the engine shows no inner values.
    """
    from ulsam_deploy.graph import views
    from ulsam_deploy.graph.watching.reading import GateReader

    program = prepared.network.fused().program
    reader = GateReader(program, prepared.gates())
    try:
        for feed in views.watched_feeds(program, golden):
            reader.note(feed, values(feed))
    except UlsamError:  # additional evidence: without it, the outputs decide
        return ()
    return reader.readings()
