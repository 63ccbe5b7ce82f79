"""The documents that ``--json`` prints, as types; the published schema in ``docs/`` is generated from them.

A document is one JSON object on stdout; its ``schema`` identifies its type. ``python -m ulsam_deploy.cli.documents``
writes ``docs/commands.schema.json``. A document of plain values is defined in its command's own module, which need not
import this one then.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass

from ulsam_deploy.cli.bench_count import CountDocument
from ulsam_deploy.cli.cache import CacheDocument
from ulsam_deploy.cli.new import NewDocument, NewListDocument
from ulsam_deploy.cli.pack import PackDocument
from ulsam_deploy.cli.report import ReportDocument
from ulsam_deploy.cli.sign import SignDocument
from ulsam_deploy.device import codec
from ulsam_deploy.device.bench.result import Result
from ulsam_deploy.device.bundle import Evidence, Manifest
from ulsam_deploy.device.commands.answer import Document, ErrorDocument, schema_field
from ulsam_deploy.device.commands.documents import BuildDocument, DoctorDocument, VerifyDocument
from ulsam_deploy.device.findings import AutoFacts
from ulsam_deploy.device.shortfall import Shortfall
from ulsam_deploy.device.types import TensorSpec
from ulsam_deploy.exporting.plan import PlanDocument
from ulsam_deploy.gate import CompareDocument
from ulsam_deploy.graph.resolution import Resolution
from ulsam_deploy.load.cost import Census
from ulsam_deploy.sweep.work import CellFacts, CellRun

SCHEMA_ID = "urn:ulsam-deploy:commands:2"


@dataclass(frozen=True)
class ExportDocument:
    """``export``: the manifest that was written, or why there is none.

    ``missed``: artifacts below ``--require``. ``auto``: by target, the trials and the choice of the precision search.
    """

    bundle: str | None
    manifest: Manifest | None
    left_out: Mapping[str, str]
    missed: tuple[Shortfall, ...]
    auto: Mapping[str, AutoFacts]
    notes: tuple[str, ...]
    exit_code: int
    schema: str = schema_field("export", 4)


@dataclass(frozen=True)
class VerifyAgainstDocument:
    """``verify --against MODEL ARTIFACT``: how inputs and outputs of the file were matched, and the evidence."""

    artifact: str
    target: str
    precision: str
    inputs: Mapping[str, TensorSpec]
    outputs: Mapping[str, TensorSpec]
    evidence: Evidence
    notes: tuple[str, ...]
    reproduction: str | None
    exit_code: int
    schema: str = schema_field("verify-against", 4)


@dataclass(frozen=True)
class InspectBundleDocument:
    """``inspect BUNDLE``: its manifest."""

    manifest: Manifest
    schema: str = schema_field("inspect", 5)


@dataclass(frozen=True)
class LintDocument:
    """``lint``: the forecast of each block, and conclusions from it as sentences."""

    blocks: tuple[Resolution, ...]
    suggestions: tuple[str, ...]
    notes: tuple[str, ...]
    schema: str = schema_field("lint", 1)


@dataclass(frozen=True)
class Timed:
    """One host's result of ``bench``, as in ``docs/bench.schema.json``."""

    result: Result | None
    error: str | None
    exit_code: int


@dataclass(frozen=True)
class BenchHostsDocument:
    """``bench --host``: by host."""

    hosts: Mapping[str, Timed]
    exit_code: int
    schema: str = schema_field("bench-hosts", 3)


@dataclass(frozen=True)
class SweptCell:
    """One cell: its findings, what differs from run to run, and the path of its bundle."""

    key: str
    found: CellFacts
    run: CellRun
    attempts: int
    bundle: str | None


@dataclass(frozen=True)
class SweepDocument:
    """``sweep``: every cell of the table."""

    title: str
    cells: tuple[SweptCell, ...]
    exit_code: int
    schema: str = schema_field("sweep", 2)


@dataclass(frozen=True)
class PlannedCell:
    """One cell as text, and whether its result is there already."""

    key: str
    cell: str
    done: bool


@dataclass(frozen=True)
class SweepPlanDocument:
    """``sweep --dry-run``."""

    output: str
    cells: tuple[PlannedCell, ...]
    schema: str = schema_field("sweep-plan", 2)


@dataclass(frozen=True)
class CensusDocument(Census):
    """``inspect CHECKPOINT``: parameters and MACs of the network, of its blocks, and of its backbone."""

    schema: str = schema_field("inspect", 3)


@dataclass(frozen=True)
class VerifiedThere:
    """The answer of ``verify`` on one host."""

    answer: VerifyDocument | None
    error: str | None
    exit_code: int


@dataclass(frozen=True)
class VerifyHostsDocument:
    """``verify --host``: by host."""

    hosts: Mapping[str, VerifiedThere]
    exit_code: int
    schema: str = schema_field("verify-hosts", 5)


@dataclass(frozen=True)
class DoctorThere:
    """The answer of ``doctor`` on one host."""

    answer: DoctorDocument | None
    error: str | None
    exit_code: int


@dataclass(frozen=True)
class DoctorHostsDocument:
    """``doctor --host``: by host."""

    hosts: Mapping[str, DoctorThere]
    exit_code: int
    schema: str = schema_field("doctor-hosts", 2)


#: Every document but that of ``bench``, which is the result file of ``docs/bench.schema.json``.
DOCUMENTS: tuple[type[Document], ...] = (
    ExportDocument,
    PlanDocument,
    VerifyDocument,
    VerifyAgainstDocument,
    VerifyHostsDocument,
    BenchHostsDocument,
    CountDocument,
    CompareDocument,
    SweepDocument,
    SweepPlanDocument,
    LintDocument,
    InspectBundleDocument,
    CensusDocument,
    DoctorDocument,
    DoctorHostsDocument,
    ReportDocument,
    NewDocument,
    NewListDocument,
    PackDocument,
    SignDocument,
    BuildDocument,
    CacheDocument,
    ErrorDocument,
)


def json_schema() -> dict[str, object]:
    """One JSON Schema (draft 2020-12) for all documents: each conforms to exactly one of its ``oneOf``."""
    references: list[object] = []
    definitions: dict[str, object] = {}
    for kind in DOCUMENTS:
        found = codec.schema(kind, SCHEMA_ID)
        references.append({"$ref": found["$ref"]})
        for word, made in found["$defs"].items():
            if definitions.setdefault(word, made) != made:
                raise TypeError(f"two classes of the documents are called {word}: names in a schema must be unique")
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema", "$id": SCHEMA_ID}
    return {**head, "oneOf": references, "$defs": definitions}


if __name__ == "__main__":
    sys.stdout.write(codec.dumps(json_schema()))
