"""What ``--json`` prints, as types: the schema of every command's document follows, published in ``docs/``.

A document is one JSON object on stdout; its ``schema`` says which of these it is. ``docs/commands.schema.json`` is
written from here by ``python -m ulsam_deploy.cli.documents``.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, make_dataclass
from typing import Any

from ulsam_deploy.boards.emulate import Counts
from ulsam_deploy.device import codec
from ulsam_deploy.device.accuracy import Accuracy
from ulsam_deploy.device.bundle import Evidence, Manifest
from ulsam_deploy.device.commands.answer import ERROR
from ulsam_deploy.device.commands.doctor import Doctor
from ulsam_deploy.device.elsewhere.failure import Failure
from ulsam_deploy.device.findings import AutoFacts, Verdict
from ulsam_deploy.device.shortfall import Shortfall
from ulsam_deploy.device.types import TensorSpec
from ulsam_deploy.exporting.plan import PlanDocument
from ulsam_deploy.gate import LimitFinding
from ulsam_deploy.graph.resolution import Resolution
from ulsam_deploy.load.cost import Census

SCHEMA_ID = "urn:ulsam-deploy:commands:1"


@dataclass(frozen=True)
class Export:
    """``export``: the manifest that was written, or why there is none.

    ``missed``: artifacts below ``--require``. ``auto``: by target, what the search for a precision tried and chose.
    """

    bundle: str | None
    manifest: Manifest | None
    left_out: Mapping[str, str]
    missed: tuple[Shortfall, ...]
    auto: Mapping[str, AutoFacts]
    notes: tuple[str, ...]
    exit_code: int


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
class Verify:
    """``verify BUNDLE``: every artifact, those below ``--require``, and who signed the bundle where that was asked."""

    artifacts: tuple[Verified, ...]
    missed: tuple[Shortfall, ...]
    signed_by: str | None
    exit_code: int


@dataclass(frozen=True)
class VerifyAgainst:
    """``verify --against MODEL ARTIFACT``: how the file's ports were matched, and what running it showed."""

    artifact: str
    target: str
    precision: str
    inputs: Mapping[str, TensorSpec]
    outputs: Mapping[str, TensorSpec]
    evidence: Evidence
    notes: tuple[str, ...]
    reproduction: str | None
    exit_code: int


@dataclass(frozen=True)
class InspectBundle:
    """``inspect BUNDLE``: its manifest."""

    manifest: Manifest


@dataclass(frozen=True)
class New:
    """``new NAME``: the checkpoint that was written."""

    path: str
    network: str
    parameters: int


@dataclass(frozen=True)
class NewList:
    """``new --list``: networks, named configurations, and what is known of each, by column."""

    networks: tuple[str, ...]
    named: Mapping[str, Mapping[str, Any]]
    figures: Mapping[str, Mapping[str, str]]


@dataclass(frozen=True)
class Pack:
    """``pack``: the file that was written, in bytes."""

    path: str
    size: int


@dataclass(frozen=True)
class Sign:
    """``sign``: the signature."""

    path: str


@dataclass(frozen=True)
class Build:
    """``build``: the engine's file."""

    engine: str


@dataclass(frozen=True)
class CacheHeld:
    """``cache``: what is kept, in bytes, ``boards`` apart: their software; ``removed`` and ``freed`` by ``--clear``."""

    folder: str
    entries: int
    bytes: int
    limit: int
    boards: int
    boards_bytes: int
    removed: int
    freed: int


@dataclass(frozen=True)
class Reported:
    """One file of a report."""

    file: str
    verdict: Verdict
    sentence: str


@dataclass(frozen=True)
class ReportMade:
    """``report``: the page, its size in bytes, and what it says of each file."""

    path: str
    size: int
    files: tuple[Reported, ...]


@dataclass(frozen=True)
class Lint:
    """``lint``: the forecast of each block, and what follows from it in sentences."""

    blocks: tuple[Resolution, ...]
    suggestions: tuple[str, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class CountedArtifact:
    """One artifact on an emulated board; ``error`` says why it was not counted."""

    target: str
    precision: str
    counts: Counts | None
    error: str | None


@dataclass(frozen=True)
class Count:
    """``bench --device NAME --count``: instructions, which are no latency, as ``note`` says."""

    device: str
    note: str
    artifacts: tuple[CountedArtifact, ...]
    exit_code: int


@dataclass(frozen=True)
class Compare:
    """``compare``: every limit of the budgets that is about something measured."""

    findings: tuple[LimitFinding, ...]
    exit_code: int


@dataclass(frozen=True)
class Timed:
    """One host's result of ``bench``, as in ``docs/bench.schema.json``."""

    result: Mapping[str, Any] | None
    error: str | None
    exit_code: int


@dataclass(frozen=True)
class BenchHosts:
    """``bench --host``: by host."""

    hosts: Mapping[str, Timed]
    exit_code: int


@dataclass(frozen=True)
class Answered:
    """What one host's own ``--json`` said: the document of the command without ``--host``."""

    answer: Mapping[str, Any] | None
    error: str | None
    exit_code: int


@dataclass(frozen=True)
class Hosts:
    """``verify --host`` and ``doctor --host``: by host."""

    hosts: Mapping[str, Answered]
    exit_code: int


@dataclass(frozen=True)
class VerifyHosts(Hosts):
    """``verify --host``: the document of ``verify`` from each."""


@dataclass(frozen=True)
class DoctorHosts(Hosts):
    """``doctor --host``: the document of ``doctor`` from each."""


@dataclass(frozen=True)
class SweptCell:
    """One cell: what was found, what differs from run to run, and where its bundle lies."""

    key: str
    found: Mapping[str, Any]
    run: Mapping[str, Any]
    attempts: int
    bundle: str | None


@dataclass(frozen=True)
class Swept:
    """``sweep``: every cell of the table."""

    title: str
    cells: tuple[SweptCell, ...]
    exit_code: int


@dataclass(frozen=True)
class PlannedCell:
    """One cell in words, and whether its result is there already."""

    key: str
    cell: str
    done: bool


@dataclass(frozen=True)
class SweepPlan:
    """``sweep --dry-run``."""

    output: str
    cells: tuple[PlannedCell, ...]


#: By the word in ``schema``; where one command prints several kinds of document, all of them.
DOCUMENTS: Mapping[str, tuple[type[Any], ...]] = {
    "export": (Export,),
    "plan": (PlanDocument,),
    "verify": (Verify,),
    "verify-against": (VerifyAgainst,),
    "verify-hosts": (VerifyHosts,),
    "bench-hosts": (BenchHosts,),
    "count": (Count,),
    "compare": (Compare,),
    "sweep": (Swept,),
    "sweep-plan": (SweepPlan,),
    "lint": (Lint,),
    "inspect": (InspectBundle, Census),
    "doctor": (Doctor,),
    "doctor-hosts": (DoctorHosts,),
    "report": (ReportMade,),
    "new": (New, NewList),
    "pack": (Pack,),
    "sign": (Sign,),
    "build": (Build,),
    "cache": (CacheHeld,),
    ERROR: (Failure,),
}


def json_schema() -> dict[str, Any]:
    """One JSON Schema (draft 2020-12) for all documents: each conforms to exactly one of its ``oneOf``."""
    references: list[dict[str, Any]] = []
    definitions: dict[str, Any] = {}
    for name, kinds in DOCUMENTS.items():
        for kind in kinds:
            found = codec.schema(_with_schema(name, kind), SCHEMA_ID)
            references.append({"$ref": found["$ref"]})
            for word, made in found["$defs"].items():
                if definitions.setdefault(word, made) != made:
                    raise TypeError(f"two classes of the documents are called {word}: a schema knows them by name")
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema", "$id": SCHEMA_ID}
    return {**head, "oneOf": references, "$defs": definitions}


def _with_schema(name: str, kind: type[Any]) -> type[Any]:
    """``kind`` with the ``schema`` field that every document has."""
    identifier = f"ulsam-deploy.{name}/1"
    extra = ("schema", str, field(kw_only=True, metadata={"pattern": re.escape(identifier), "words": identifier}))
    made = make_dataclass(f"{kind.__name__}Document", [extra], bases=(kind,), frozen=True)
    made.__doc__, made.__module__ = kind.__doc__, kind.__module__
    return made


if __name__ == "__main__":
    sys.stdout.write(codec.dumps(json_schema()))
