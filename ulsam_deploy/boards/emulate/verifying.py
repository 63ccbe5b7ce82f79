"""Verifies a bundle on an emulated board: the same check as on the board, with the evidence level of emulation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ulsam_deploy.boards.emulate import guest
from ulsam_deploy.boards.emulate.machine import EmulatedMachine, emulated
from ulsam_deploy.boards.emulate.several import each, records
from ulsam_deploy.device.bundle import ArtifactRecord, Bundle, Evidence
from ulsam_deploy.device.progress import Progress
from ulsam_deploy.device.types import EvidenceLevel
from ulsam_deploy.device.verify import Checked

__all__ = ["verify_bundle"]


def verify_bundle(
    bundle: Bundle, board: str, targets: Sequence[str] = (), progress: Progress | None = None
) -> list[Checked]:
    """Check ``bundle``'s integrity, then every artifact (of ``targets``, if given) on the emulated ``board``.

    The result of an artifact without an engine there has an :class:`UnavailableError`, that of one with kernels that
    the processor can't execute a :class:`TrapError`. Raises :class:`UsageError` for an unknown board or target,
    :class:`RefusedError` if a byte isn't as recorded, :class:`UnavailableError` if emulation isn't possible here.
    """
    wanted = records(bundle, targets)
    with emulated(board, progress or Progress(quiet=True)) as machine:
        done = each(
            machine, wanted, lambda record: _verify(machine, bundle, record), progress, lambda it: it.verdict.value
        )
    return [Checked(record, evidence, error) for record, evidence, error in done]


def _verify(machine: EmulatedMachine, bundle: Bundle, record: ArtifactRecord) -> Evidence:
    found = machine.run(guest.verify, guest.Chosen(bundle.root, record.target, record.precision))
    engine = found.engine and replace(found.engine, device=machine.board, emulated=f"qemu {machine.profile.cpu}")
    return replace(found, level=EvidenceLevel.EMULATED_ON_DEVICE_CPU, engine=engine)
