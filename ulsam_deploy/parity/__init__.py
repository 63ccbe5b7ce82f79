"""Truth: probes, noise floors, liveness and the verdict. numpy only; device-safe."""

from ulsam_deploy.parity.check import BlockCheck, OutputCheck, Report, ablation_distances, check
from ulsam_deploy.parity.golden import Golden, Yardstick
from ulsam_deploy.parity.liveness import Liveness, Word
from ulsam_deploy.parity.noise import TOLERANCE, Floor, explain, noise_floors
from ulsam_deploy.parity.probes import make_probes

__all__ = [
    "TOLERANCE",
    "BlockCheck",
    "Floor",
    "Golden",
    "Liveness",
    "OutputCheck",
    "Report",
    "Word",
    "Yardstick",
    "ablation_distances",
    "check",
    "explain",
    "make_probes",
    "noise_floors",
]
