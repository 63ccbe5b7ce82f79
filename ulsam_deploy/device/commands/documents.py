"""The documents that the commands of a board print with ``--json``, as types."""

from __future__ import annotations

from dataclasses import dataclass

from ulsam_deploy.device.accuracy import Accuracy
from ulsam_deploy.device.bundle import Evidence
from ulsam_deploy.device.commands.answer import schema_field
from ulsam_deploy.device.shortfall import Shortfall

__all__ = ["Backend", "BuildDocument", "DoctorDocument", "Precision", "Tool", "Verified", "VerifyDocument"]


@dataclass(frozen=True)
class Verified:
    """The result for one artifact of a bundle; ``error`` says why it did not run.

    ``accuracy``: on the labelled data of ``--data``.
    """

    target: str
    precision: str
    evidence: Evidence | None
    error: str | None
    accuracy: Accuracy | None


@dataclass(frozen=True)
class VerifyDocument:
    """``verify BUNDLE``: every artifact, those below ``--require``, and who signed the bundle if that was checked.

    ``probes`` identifies those of the parity check, as in a result of ``bench``.
    """

    artifacts: tuple[Verified, ...]
    missed: tuple[Shortfall, ...]
    signed_by: str | None
    exit_code: int
    probes: str = ""
    schema: str = schema_field("verify", 5)


@dataclass(frozen=True)
class BuildDocument:
    """``build``: the engine's file."""

    engine: str
    schema: str = schema_field("build", 1)


@dataclass(frozen=True)
class Precision:
    """One precision of a backend: whether its requirements are installed, and what to do if not."""

    name: str
    usable: bool
    detail: str
    todo: str


@dataclass(frozen=True)
class Backend:
    """One exporter (``does`` is ``make``) or engine (``run``): whether it is usable here, and what to do if not.

    ``precisions``: each that it can make or run at all, with its additional requirements.
    """

    does: str
    name: str
    usable: bool
    detail: str
    todo: str
    precisions: tuple[Precision, ...]


@dataclass(frozen=True)
class Tool:
    """An optional tool and what it is for: emulation, reports, signing, sweeps, boards."""

    does: str
    name: str
    usable: bool
    detail: str
    todo: str


@dataclass(frozen=True)
class DoctorDocument:
    """``doctor``: what is possible here. ``notes`` concern the Python installation as a whole."""

    version: str
    python: str
    backends: tuple[Backend, ...]
    tools: tuple[Tool, ...]
    notes: tuple[str, ...]
    schema: str = schema_field("doctor", 2)
