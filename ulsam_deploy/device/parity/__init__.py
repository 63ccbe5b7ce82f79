"""The parity check: probes, noise floors, retention and the verdict. numpy only; device-safe."""

from ulsam_deploy.device.findings import (
    AttentionState,
    BlockCheck,
    Floor,
    OutputCheck,
    Reason,
    ReasonKind,
    Report,
    Retention,
)
from ulsam_deploy.device.parity.check import ablation_distances, apart, check
from ulsam_deploy.device.parity.golden import Golden, PrecisionFloors
from ulsam_deploy.device.parity.inside import Added, Inside, Reading
from ulsam_deploy.device.parity.noise import explain, noise_floors, tolerance_of
from ulsam_deploy.device.parity.probes import is_built_in, make_probes
from ulsam_deploy.device.thresholds import TOLERANCE

__all__ = [
    "TOLERANCE",
    "Added",
    "AttentionState",
    "BlockCheck",
    "Floor",
    "Golden",
    "Inside",
    "OutputCheck",
    "PrecisionFloors",
    "Reading",
    "Reason",
    "ReasonKind",
    "Report",
    "Retention",
    "ablation_distances",
    "apart",
    "check",
    "explain",
    "is_built_in",
    "make_probes",
    "noise_floors",
    "tolerance_of",
]
