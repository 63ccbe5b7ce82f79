"""A required evidence level that was not reached: which artifact, the level it reached, the reason, and what to do.

Standard library only; device-safe.
"""

from __future__ import annotations

from dataclasses import dataclass

from ulsam_deploy.device.bench.identity import DeviceProof
from ulsam_deploy.device.errors import UlsamError
from ulsam_deploy.device.invocation import OURS, command, typed
from ulsam_deploy.device.printing import shown
from ulsam_deploy.device.types import EvidenceLevel

__all__ = ["Shortfall", "shortfall"]


@dataclass(frozen=True)
class Shortfall:
    """One artifact below ``--require``. ``why`` is a clause without a full stop; ``todo`` may be empty."""

    target: str
    precision: str
    reached: EvidenceLevel
    required: EvidenceLevel
    why: str
    todo: str

    def __str__(self) -> str:
        text = (
            f"{self.target} {self.precision}: reached '{self.reached.label}', but '{self.required.label}' was "
            f"required: {self.why}"
        )
        return "\n".join([shown(text), *([f"  do this:  {shown(self.todo)}"] if self.todo else [])])


def shortfall(
    target: str,
    precision: str,
    reached: EvidenceLevel,
    required: EvidenceLevel,
    *,
    bundle: str,
    error: UlsamError | None = None,
    emulated: bool = False,
    here: DeviceProof | None = None,
) -> Shortfall | None:
    """Explain why ``reached`` is below ``required``.

    Args:
        target: The artifact's target.
        precision: The artifact's precision.
        reached: The evidence level that was reached.
        required: The evidence level that was required.
        bundle: The text for the bundle in the advice.
        error: The error that kept an engine from running the artifact.
        emulated: Whether it was to run on an emulated board.
        here: Which board this machine proves to be.

    Returns:
        The shortfall, or ``None`` if the required level was reached.
    """
    if reached >= required:
        return None
    if error is not None:
        why, todo = error.found.splitlines()[0], error.todo
    elif required is EvidenceLevel.MEASURED_ON_DEVICE:
        why = "an emulated board computes what the board does, and measures nothing" if emulated else ""
        why = why or (here.why if here else "it did not run on a device")
        todo = typed(OURS, "verify", bundle, "--host", "USER@NAME", on_host=True)
    elif required is EvidenceLevel.EMULATED_ON_DEVICE_CPU and reached is EvidenceLevel.EXECUTED:
        why = "it ran on this machine's own processor"
        todo = typed(OURS, "verify", bundle, "--device", "NAME", on_host=True)
    else:
        why, todo = "no engine ran it here", command("doctor")
    return Shortfall(target, precision, reached, required, why, todo)
