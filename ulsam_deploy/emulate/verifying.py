"""Verifies a bundle on an emulated board: the same check as on the board, with the tier that this deserves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ulsam_deploy.bundle import ArtifactRecord, Bundle, Evidence, strict
from ulsam_deploy.contracts import Tier
from ulsam_deploy.emulate.machine import Machine, emulated
from ulsam_deploy.errors import UlsamError, UnavailableError
from ulsam_deploy.evidence import Checked
from ulsam_deploy.progress import Progress

__all__ = ["verify_bundle"]


def verify_bundle(
    bundle: Bundle, board: str, targets: Sequence[str] = (), progress: Progress | None = None
) -> list[Checked]:
    """Check ``bundle``'s integrity, then every artifact (of ``targets``, where given) on the emulated ``board``.

    An artifact whose target has no engine there carries an :class:`UnavailableError`, one whose kernels the processor
    refuses a :class:`TrapError`. Raises :class:`UsageError` for an unknown board or target, :class:`RefusedError` for a
    byte that isn't as recorded, :class:`UnavailableError` where nothing can be emulated here.
    """
    progress = progress or Progress(quiet=True)
    bundle.verify_integrity()
    for target in targets:
        bundle.artifact(target)  # says which ones there are
    records = [record for record in bundle.manifest.artifacts if not targets or record.target in targets]
    with emulated(board, progress) as machine:
        return [_verify(machine, bundle, record, progress) for record in records]


def _verify(machine: Machine, bundle: Bundle, record: ArtifactRecord, progress: Progress) -> Checked:
    if record.target not in machine.targets:
        missing = UnavailableError(
            f"the profile of {machine.board} has no engine for '{record.target}'", expected=", ".join(machine.targets)
        )
        return Checked(record, None, missing)
    with progress.stage(f"{record.target} {record.precision}") as said:
        try:
            answer = machine.run(["verify", bundle.root, record.target, record.precision])
        except UlsamError as error:
            said.append(f"failed: {error.found.splitlines()[0]}")
            return Checked(record, None, error)
        found = strict.decode(Evidence, answer, "evidence", UnavailableError)
        said.append(f"{found.verdict.value} on an emulated {machine.profile.core}")
    engine = {**found.engine, "device": machine.board, "emulated": f"qemu {machine.profile.cpu}"}
    return Checked(record, replace(found, tier=Tier.EMULATED_ON_DEVICE_CPU, engine=engine))
