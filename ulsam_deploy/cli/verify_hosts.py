"""``ulsam-deploy verify --host``: a bundle verified on boards over SSH, in one table."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet

from ulsam_deploy.cli.documents import VerifiedThere, VerifyHostsDocument
from ulsam_deploy.cli.hosts import HostReply, asides, at_hosts, document, overall, sent
from ulsam_deploy.device.bundle import Evidence, read_bundle
from ulsam_deploy.device.checks import Check, artifact_checks
from ulsam_deploy.device.commands import words
from ulsam_deploy.device.commands.answer import Answer, Part, Table
from ulsam_deploy.device.commands.arguments import targets_of
from ulsam_deploy.device.commands.ci import Handover, handover
from ulsam_deploy.device.commands.documents import VerifyDocument
from ulsam_deploy.device.errors import Exit, UnavailableError, combine
from ulsam_deploy.device.findings import Verdict
from ulsam_deploy.device.invocation import typed
from ulsam_deploy.device.types import EvidenceLevel


def run(arguments: argparse.Namespace) -> Answer:
    """Check the bundle on every host; the worst of their exit codes."""
    asked = [word for target in arguments.target or () for word in ("--target", target)]
    asked += ["--require", arguments.require.label]
    asked += ["--time-limit", str(arguments.time_limit), "--memory-limit", str(arguments.memory_limit)]
    asked += ["--provider", arguments.provider] if arguments.provider else []
    asked += ["--jail", arguments.jail]
    with handover(arguments, arguments.path) as told:
        wanted = {(each.target, each.precision) for each in read_bundle(arguments.path).chosen(targets_of(arguments))}
        with sent({"bundle": arguments.path}) as folder:
            replies = at_hosts(arguments, folder, ["verify", "bundle", "--json", *asked])
        found = {reply.host: document(reply, VerifyDocument) for reply in replies}
        for reply in replies:
            if said := found[reply.host]:
                hold_to_its_words(reply, said, wanted)
        _fill(told, replies, found, arguments)
    code = overall(replies)
    text: list[Part] = [*asides(replies), *([Table(told.columns, told.rows)] if told.rows else [])]
    text += [line for check in told.checks if check.name != "verify" for line in check.text.splitlines()]
    hosts = {
        reply.host: VerifiedThere(found[reply.host], str(reply.error) if reply.error else None, int(reply.code))
        for reply in replies
    }
    return Answer(VerifyHostsDocument(hosts, int(code)), [*text, "", told.sentence], code)


def hold_to_its_words(reply: HostReply, said: VerifyDocument, wanted: AbstractSet[tuple[str, str]]) -> None:
    """Correct the outcome of a host whose exit code says better things than its document, or than nothing at all.

    Args:
        reply: The reply; its ``code`` and ``error`` are set.
        said: Its document.
        wanted: Target and precision of each artifact that it was asked to verify.
    """
    failed = any(item.evidence and item.evidence.verdict is Verdict.FAIL for item in said.artifacts)
    reply.code = combine([reply.code, said.exit_code, Exit.CHECK_FAILED if failed else Exit.OK])
    silent = sorted(wanted - {(item.target, item.precision) for item in said.artifacts})
    ran = any(item.evidence for item in said.artifacts)
    if silent or (reply.code is Exit.OK and not ran):
        about = " ".join(silent[0]) if silent else "what it ran"
        reply.error = reply.error or UnavailableError(f"{reply.host} said nothing about {about}")
        reply.code = combine([reply.code, Exit.UNAVAILABLE])


def _fill(
    told: Handover,
    replies: Sequence[HostReply],
    found: Mapping[str, VerifyDocument | None],
    arguments: argparse.Namespace,
) -> None:
    """The table, and every check of every host."""
    records = {(r.target, r.precision): r for r in read_bundle(arguments.path).manifest.artifacts}
    rows = []
    for reply in replies:
        said = found[reply.host]
        missed = {(each.target, each.precision): each.why for each in said.missed} if said else {}
        for item in said.artifacts if said else ():
            key = (item.target, item.precision)
            if key not in records:
                continue
            subject = f"{reply.host} {item.target} {item.precision}"
            row = words.artifact_row(records[key], item.evidence or Evidence(EvidenceLevel.EXPORTED))
            rows.append((reply.host, *row))
            if item.error:
                text = f"{subject}: not run there: {item.error}"
                told.checks.append(Check(subject, "run", Verdict.UNVERIFIED, text))
            if item.evidence:
                again = typed("ulsam-deploy", "verify", arguments.path, "--host", reply.host)
                why = missed.get(key, "")
                told.checks += artifact_checks(subject, item.evidence, again, required=arguments.require, why=why)
    told.columns, told.rows = ("host", *words.ARTIFACT_COLUMNS), rows
    told.checks += [Check(r.host, "verify", Verdict.FAIL, str(r.error)) for r in replies if r.error]
    held = sum(reply.code is Exit.OK for reply in replies)
    told.sentence = f"The bundle holds on {held} of {len(replies)} hosts."
