"""``ulsam-deploy verify --against``: the command around :func:`ulsam_deploy.against.verify_against`."""

from __future__ import annotations

import argparse

from ulsam_deploy.against import Foreign, Question, verify_against
from ulsam_deploy.cli.arguments import model_options
from ulsam_deploy.cli.documents import VerifyAgainstDocument
from ulsam_deploy.device.checks import artifact_checks
from ulsam_deploy.device.commands import words
from ulsam_deploy.device.commands.answer import Answer, Part, Table, path_text
from ulsam_deploy.device.commands.arguments import limits
from ulsam_deploy.device.commands.ci import Handover, handover
from ulsam_deploy.device.errors import UsageError
from ulsam_deploy.device.findings import ReplayDepth, Verdict
from ulsam_deploy.device.invocation import typed
from ulsam_deploy.device.progress import Progress
from ulsam_deploy.device.types import EvidenceLevel
from ulsam_deploy.exporting.budget import read_budget
from ulsam_deploy.exporting.options import ExportOptions


def run(arguments: argparse.Namespace) -> Answer:
    """Check one artifact against ``--against MODEL``."""
    budget = read_budget(None, arguments.limit)
    if budget.is_for_search:
        raise UsageError("--limit is about agreement here", expected="agreement=SHARE or deviation=SHARE")
    options = ExportOptions(
        model=arguments.against,
        budget=budget,
        probes=arguments.probes,
        calibration=arguments.calibration,
        preprocessing=arguments.preprocessing,
        **model_options(arguments),
        replay=ReplayDepth(arguments.replay),
        cache=not arguments.no_cache,
    )
    question = Question(
        artifact=arguments.path,
        layout=arguments.layout,
        precision=arguments.precision,
        limits=limits(arguments),
        reproduce=arguments.reproduce,
        trust_native=arguments.trust_native,
    )
    if arguments.require > EvidenceLevel.EXECUTED:
        raise UsageError(
            f"--against runs the artifact here, which never shows '{arguments.require.label}'",
            expected="at most --require executed",
            todo="for more, verify a bundle: ulsam-deploy verify BUNDLE",
        )
    with handover(arguments, question.artifact) as told:
        found = verify_against(options, question, Progress(beat=not arguments.json))
        _tell(told, found, arguments)
    document = VerifyAgainstDocument(
        artifact=path_text(question.artifact),
        target=found.target,
        precision=found.precision,
        inputs=found.case.inputs,
        outputs=found.case.outputs,
        evidence=found.evidence,
        notes=tuple(found.notes),
        reproduction=path_text(question.reproduce) if found.reproduced else None,
        exit_code=int(found.exit_code),
    )
    return Answer(document, _text(told, found, question), found.exit_code)


def _tell(told: Handover, found: Foreign, arguments: argparse.Namespace) -> None:
    size = sum(file.stat().st_size for file in found.case.files)
    told.columns = words.ARTIFACT_COLUMNS
    told.rows = [words.evidence_row(found.target, arguments.path.name, size, found.evidence)]
    told.sentence = words.proven([found.evidence])
    again = typed("ulsam-deploy", "verify", "--against", arguments.against, arguments.path)
    told.checks += artifact_checks(
        f"{found.target} {found.precision}", found.evidence, again, required=arguments.require
    )


def _text(told: Handover, found: Foreign, question: Question) -> list[Part]:
    file = found.case.files[0].name
    rows = [*told.rows, *words.further_rows(found.target, file, found.evidence)]
    text: list[Part] = [Table(told.columns, rows)]
    text += words.further_words(found.target, found.evidence)
    text += [f"{found.target}: {reason}" for reason in found.evidence.reasons]
    text += [f"note: {note}" for note in found.notes]
    text += ["", f"Proven: {told.sentence}"]
    if found.reproduced:
        text.append("To reproduce it elsewhere:")
        text.append(f"Next:   {typed('cd', question.reproduce)} && python reproduce.py")
    elif found.evidence.verdict is Verdict.FAIL:
        text.append("The same command with --reproduce DIR writes inputs, outputs and a script that reproduces it.")
    return text
