"""Truth: probes, noise floors, liveness and the verdict. numpy only; device-safe."""

from ulsam_deploy.device.findings import BlockCheck, Floor, Liveness, OutputCheck, Reason, ReasonKind, Report, Word
from ulsam_deploy.device.parity.check import ablation_distances, check
from ulsam_deploy.device.parity.golden import Golden, Yardstick
from ulsam_deploy.device.parity.inside import Added, Inside, Reading
from ulsam_deploy.device.parity.liveness import is_mixed_up
from ulsam_deploy.device.parity.noise import explain, noise_floors, tolerance_of
from ulsam_deploy.device.parity.probes import make_probes
from ulsam_deploy.device.thresholds import TOLERANCE

__all__ = [
    "TOLERANCE",
    "Added",
    "BlockCheck",
    "Floor",
    "Golden",
    "Inside",
    "Liveness",
    "OutputCheck",
    "Reading",
    "Reason",
    "ReasonKind",
    "Report",
    "Word",
    "Yardstick",
    "ablation_distances",
    "check",
    "explain",
    "is_mixed_up",
    "make_probes",
    "noise_floors",
    "tolerance_of",
]
