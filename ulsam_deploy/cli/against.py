"""``ulsam-deploy verify --against``: the command around :func:`ulsam_deploy.against.verify_against`."""

from __future__ import annotations

import argparse
from typing import Any

from ulsam_deploy.against import Foreign, Question, verify_against
from ulsam_deploy.cli.arguments import model_options
from ulsam_deploy.device import codec
from ulsam_deploy.device.checks import artifact_checks
from ulsam_deploy.device.commands import words
from ulsam_deploy.device.commands.arguments import limits
from ulsam_deploy.device.commands.ci import Handover, handover
from ulsam_deploy.device.errors import Exit, UsageError
from ulsam_deploy.device.findings import Verdict
from ulsam_deploy.device.invocation import typed
from ulsam_deploy.device.printing import say
from ulsam_deploy.device.progress import Progress
from ulsam_deploy.device.types import Tier
from ulsam_deploy.exporting.options import ExportOptions


def run(arguments: argparse.Namespace) -> Exit:
    """Check one artifact against ``--against MODEL``."""
    options = ExportOptions(
        model=arguments.against,
        probes=arguments.probes,
        calibration=arguments.calibration,
        preprocessing=arguments.preprocessing,
        **model_options(arguments),
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
    if arguments.require > Tier.EXECUTED:
        raise UsageError(
            f"--against runs the artifact here, which never shows '{arguments.require.label}'",
            expected="at most --require executed",
            todo="for more, verify a bundle: ulsam-deploy verify BUNDLE",
        )
    with handover(arguments, question.artifact.name) as told:
        found = verify_against(options, question, Progress(beat=not arguments.json))
        _tell(told, found, arguments)
    code = found.exit_code
    if arguments.json:
        words.print_json("verify-against", {**_document(found, question), "exit_code": int(code)})
    else:
        _print(found, question)
    return code


def _tell(told: Handover, found: Foreign, arguments: argparse.Namespace) -> None:
    size = sum(file.stat().st_size for file in found.case.files)
    told.columns = words.ARTIFACT_COLUMNS
    told.rows = [words.evidence_row(found.target, arguments.path.name, size, found.evidence)]
    told.sentence = words.proven([found.evidence])
    again = typed("ulsam-deploy", "verify", "--against", arguments.against, arguments.path)
    told.checks += artifact_checks(
        f"{found.target} {found.precision}", found.evidence, again, required=arguments.require
    )


def _print(found: Foreign, question: Question) -> None:
    size = sum(file.stat().st_size for file in found.case.files)
    row = words.evidence_row(found.target, question.artifact.name, size, found.evidence)
    words.print_table(words.ARTIFACT_COLUMNS, [row])
    for reason in found.evidence.reasons:
        say(f"{found.target}: {reason}")
    for note in found.notes:
        say(f"note: {note}")
    say("", f"Proven: {words.proven([found.evidence])}")
    if found.reproduced:
        say("To show it to others:")
        say(f"Next:   {typed('cd', question.reproduce)} && python reproduce.py")
    elif found.evidence.verdict is Verdict.FAIL:
        say("The same command with --reproduce DIR leaves inputs, outputs and a script that shows it.")


def _document(found: Foreign, question: Question) -> dict[str, Any]:
    return {
        "artifact": str(question.artifact),
        "target": found.target,
        "precision": found.precision,
        "inputs": {name: codec.encode(spec, name) for name, spec in found.case.inputs.items()},
        "outputs": {name: codec.encode(spec, name) for name, spec in found.case.outputs.items()},
        "evidence": codec.encode(found.evidence, "evidence"),
        "notes": list(found.notes),
        "reproduction": str(question.reproduce) if found.reproduced else None,
    }
