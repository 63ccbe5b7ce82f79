"""``ulsam-deploy verify --host`` and ``doctor --host``: what boards behind SSH say, in one table."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from typing import Any

from ulsam_deploy.cli.hosts import HostAnswer, at_hosts, document, overall, sent
from ulsam_deploy.device import codec
from ulsam_deploy.device.bundle import Evidence, read_bundle
from ulsam_deploy.device.checks import Check, artifact_checks
from ulsam_deploy.device.commands import words
from ulsam_deploy.device.commands.ci import Handover, handover
from ulsam_deploy.device.commands.doctor import Doctor
from ulsam_deploy.device.commands.doctor import rows as backend_rows
from ulsam_deploy.device.errors import Exit, RefusedError, UlsamError
from ulsam_deploy.device.findings import Verdict
from ulsam_deploy.device.invocation import typed
from ulsam_deploy.device.printing import complain, say, shown
from ulsam_deploy.device.types import Tier

_BACKENDS = ("host", "backend", "precision", "there", "found", "do this")


def verify(arguments: argparse.Namespace) -> Exit:
    """Check the bundle on every host; the worst of their exit codes."""
    asked = [word for target in arguments.target or () for word in ("--target", target)]
    asked += ["--require", arguments.require.label]
    asked += ["--time-limit", str(arguments.time_limit), "--memory-limit", str(arguments.memory_limit)]
    with handover(arguments, arguments.path.name) as told:
        with sent({"bundle": arguments.path}) as folder:
            answers = at_hosts(arguments, folder, ["verify", "bundle", "--json", *asked])
        _fill(told, answers, arguments)
    code = overall(answers)
    if _told(arguments, "verify-hosts", answers, "ulsam-deploy.verify/1", code):
        return code
    if told.rows:
        words.print_table(told.columns, told.rows)
    for check in told.checks:
        if check.text and check.name != "verify":
            say(*check.text.split("\n"))
    say("", told.sentence)
    return code


def _fill(told: Handover, answers: Sequence[HostAnswer], arguments: argparse.Namespace) -> None:
    """The table, and every check of every host."""
    records = {f"{r.target} {r.precision}": r for r in read_bundle(arguments.path).manifest.artifacts}
    rows = []
    for answer in answers:
        missed = _missed(answer)
        for label, evidence, error in _artifacts(answer):
            if label not in records:
                continue
            subject = f"{answer.host} {label}"
            row = words.artifact_row(records[label], evidence or Evidence(Tier.EXPORTED))
            rows.append((answer.host, *row))
            if error:
                told.checks.append(Check(subject, "run", Verdict.UNVERIFIED, f"{subject}: not run there: {error}"))
            if evidence:
                again = typed("ulsam-deploy", "verify", arguments.path, "--host", answer.host)
                why = missed.get(label, "")
                told.checks += artifact_checks(subject, evidence, again, required=arguments.require, why=why)
    told.columns, told.rows = ("host", *words.ARTIFACT_COLUMNS), rows
    told.checks += [Check(a.host, "verify", Verdict.FAIL, str(a.error)) for a in answers if a.error]
    held = sum(answer.code is Exit.OK for answer in answers)
    told.sentence = f"The bundle holds on {held} of {len(answers)} hosts."


def doctor(arguments: argparse.Namespace) -> Exit:
    """What each host has; a host that can't be reached is an error here, a missing engine is an answer."""
    with sent({}) as folder:
        answers = at_hosts(arguments, folder, ["doctor", "--json"])
    found = {answer.host: _doctor(answer, document(answer, "ulsam-deploy.doctor/1")) for answer in answers}
    code = overall(answers)
    if _told(arguments, "doctor-hosts", answers, "ulsam-deploy.doctor/1", code):
        return code
    rows = []
    for answer in answers:
        told = found[answer.host]
        for backend in told.backends if told else ():
            rows += [(answer.host, *cells[1:]) for cells in backend_rows(backend)]
        if answer.finished:
            say(f"{answer.host}: Python {answer.finished.python}, {answer.finished.machine}")
        for note in told.notes if told else ():
            say(f"{answer.host}: {note}")
    if rows:
        say("")
        words.print_table(_BACKENDS, rows)
    return code


def _doctor(answer: HostAnswer, found: Mapping[str, Any] | None) -> Doctor | None:
    """What a host's doctor said; ``None``, and an error of the host, where its document isn't as it should be."""
    if found is None:
        return None
    told = {name: value for name, value in found.items() if name != "schema"}
    try:
        return codec.decode(Doctor, told, f"the answer of {answer.host}")
    except UlsamError as error:
        answer.error, answer.code = RefusedError(error.found, expected=error.expected), Exit.REFUSED
        return None


def _told(arguments: argparse.Namespace, schema: str, answers: Sequence[HostAnswer], inner: str, code: Exit) -> bool:
    """Errors on stderr; with ``--json`` everything on stdout, and True."""
    found = {answer.host: document(answer, inner) for answer in answers}
    for answer in answers:
        if answer.error:
            complain(answer.error)
    if arguments.json:
        hosts = {
            answer.host: {
                "answer": found[answer.host],
                "error": str(answer.error) if answer.error else None,
                "exit_code": int(answer.code),
            }
            for answer in answers
        }
        words.print_json(schema, {"hosts": hosts, "exit_code": int(code)})
    return bool(arguments.json)


def _artifacts(answer: HostAnswer) -> list[tuple[str, Evidence | None, str]]:
    """Label, evidence and error of each artifact; a document that isn't as it should be becomes the host's error."""
    found = []
    for item in _list(document(answer, "ulsam-deploy.verify/1"), "artifacts"):
        told = item.get("evidence")
        try:
            evidence = codec.decode(Evidence, told, f"the answer of {answer.host}") if told is not None else None
        except UlsamError as error:
            answer.error, answer.code = RefusedError(error.found, expected=error.expected), Exit.REFUSED
            return []
        found.append((f"{_text(item, 'target')} {_text(item, 'precision')}", evidence, _text(item, "error")))
    return found


def _missed(answer: HostAnswer) -> dict[str, str]:
    """Why each artifact that is below ``--require`` on a host is, by its label."""
    found = document(answer, "ulsam-deploy.verify/1")
    return {
        f"{_text(item, 'target')} {_text(item, 'precision')}": _text(item, "why") for item in _list(found, "missed")
    }


def _list(found: Mapping[str, Any] | None, key: str) -> list[Mapping[str, Any]]:
    items = (found or {}).get(key)
    return [item for item in items if isinstance(item, dict)] if isinstance(items, list) else []


def _text(item: Mapping[str, Any], key: str) -> str:
    value = item.get(key)
    return shown(value) if isinstance(value, str) else ""
