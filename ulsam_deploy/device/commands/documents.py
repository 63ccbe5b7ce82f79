"""What the commands that a board has print with ``--json``, as types."""

from __future__ import annotations

from dataclasses import dataclass

from ulsam_deploy.device.accuracy import Accuracy
from ulsam_deploy.device.bundle import Evidence
from ulsam_deploy.device.commands.answer import schema_field
from ulsam_deploy.device.shortfall import Shortfall

__all__ = ["Backend", "BuildDocument", "DoctorDocument", "Precision", "Tool", "Verified", "VerifyDocument"]


@dataclass(frozen=True)
class Verified:
    """One artifact of a bundle as it was found here; ``error`` says why it did not run.

    ``accuracy``: how often it is right on the labelled data of ``--data``.
    """

    target: str
    precision: str
    evidence: Evidence | None
    error: str | None
    accuracy: Accuracy | None


@dataclass(frozen=True)
class VerifyDocument:
    """``verify BUNDLE``: every artifact, those below ``--require``, and who signed the bundle where that was asked."""

    artifacts: tuple[Verified, ...]
    missed: tuple[Shortfall, ...]
    signed_by: str | None
    exit_code: int
    schema: str = schema_field("verify", 2)


@dataclass(frozen=True)
class BuildDocument:
    """``build``: the engine's file."""

    engine: str
    schema: str = schema_field("build", 1)


@dataclass(frozen=True)
class Precision:
    """One precision of a backend: whether all that it needs is here, and what to do if not."""

    name: str
    usable: bool
    detail: str
    todo: str


@dataclass(frozen=True)
class Backend:
    """One exporter (``does`` is ``make``) or engine (``run``): whether it is usable here, and what to do if not.

    ``precisions``: each that it can make or run at all, with what this one needs besides.
    """

    does: str
    name: str
    usable: bool
    detail: str
    todo: str
    precisions: tuple[Precision, ...]


@dataclass(frozen=True)
class Tool:
    """Something besides that can be done where it is installed: emulation, reports, signing, sweeps, boards."""

    does: str
    name: str
    usable: bool
    detail: str
    todo: str


@dataclass(frozen=True)
class DoctorDocument:
    """``doctor``: what is possible here. ``notes`` are about this Python as a whole."""

    version: str
    python: str
    backends: tuple[Backend, ...]
    tools: tuple[Tool, ...]
    notes: tuple[str, ...]
    schema: str = schema_field("doctor", 2)
