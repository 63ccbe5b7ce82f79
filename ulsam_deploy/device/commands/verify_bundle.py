"""The work of ``verify BUNDLE``: every artifact is run and checked, here or on a board that the host emulates."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from ulsam_deploy.device.accuracy import Accuracy
from ulsam_deploy.device.bundle import Bundle, Evidence, read_bundle
from ulsam_deploy.device.bundle.signature import check_signature, read_public_key
from ulsam_deploy.device.checks import Check, artifact_checks
from ulsam_deploy.device.commands import labelled, words
from ulsam_deploy.device.commands.answer import Answer, Aside, Part, Table
from ulsam_deploy.device.commands.arguments import limits, targets_of
from ulsam_deploy.device.commands.ci import Handover, handover
from ulsam_deploy.device.commands.documents import Verified, VerifyDocument
from ulsam_deploy.device.errors import Exit, UnavailableError, UsageError, combine
from ulsam_deploy.device.findings import Verdict
from ulsam_deploy.device.invocation import OURS, command, in_runner, typed
from ulsam_deploy.device.parity import Golden
from ulsam_deploy.device.progress import Progress
from ulsam_deploy.device.shortfall import Shortfall, shortfall
from ulsam_deploy.device.this_machine import proof
from ulsam_deploy.device.types import EvidenceLevel
from ulsam_deploy.device.verify import Checked, targets_on, verify_bundle

__all__ = ["Means", "here", "key_owner", "verify"]


@dataclass(frozen=True)
class Means:
    """How a bundle is verified.

    Attributes:
        check: Runs the artifacts of the requested targets.
        emulated: The board that is emulated to run them; empty: this machine.
        signer: Returns who signed the bundle, if that is to be checked; raises if it was somebody else.
        partner: What artifacts are compared with on labelled data.
    """

    check: Callable[[argparse.Namespace, Bundle], list[Checked]]
    emulated: str
    signer: Callable[[argparse.Namespace, Bundle], str | None]
    partner: labelled.Partner


def here(arguments: argparse.Namespace, bundle: Bundle) -> list[Checked]:
    """Verify every artifact on this machine."""
    with Progress(beat=not arguments.json).waiting("verify"):
        return verify_bundle(bundle, targets_of(arguments), limits(arguments), arguments.provider)


def key_owner(arguments: argparse.Namespace, bundle: Bundle) -> str | None:
    """Who signed the bundle, by ``--key``; ``None`` without that option."""
    if not arguments.key:
        return None
    key = read_public_key(arguments.key)
    check_signature(bundle, key)
    return f"key {key.fingerprint}"


def verify(arguments: argparse.Namespace, means: Means) -> Answer:
    """Verify the bundle that ``arguments`` name; the answer has the findings and what to do next."""
    if arguments.path.is_file() and arguments.path.suffix != ".zip":
        raise UsageError(
            f"'{arguments.path}' is a file and not a bundle",
            expected="a bundle folder or .zip",
            todo="to check an artifact against its checkpoint: "
            + typed(OURS, "verify", "--against", "MODEL", arguments.path, on_host=True),
        )
    with handover(arguments, arguments.path) as told:
        return _bundle(arguments, means, told)


def _bundle(arguments: argparse.Namespace, means: Means, told: Handover) -> Answer:
    """Integrity first, then every artifact; a missing engine counts only if its target was requested."""
    bundle = read_bundle(arguments.path)
    signed = means.signer(arguments, bundle)
    checked = means.check(arguments, bundle)
    missed = _missed(checked, arguments, means)
    right: Mapping[labelled.Key, Accuracy] = {}
    if arguments.data:
        bounds, provider = limits(arguments), arguments.provider
        checked, right = labelled.accuracies(bundle, checked, arguments.data, means.partner, bounds, provider)
    code = combine([*(_code(item, arguments) for item in checked), Exit.UNAVAILABLE if missed else Exit.OK])
    if not any(item.evidence for item in checked) and code is Exit.OK:
        code = Exit.UNAVAILABLE  # nothing ran, so nothing was verified
    _tell(told, checked, arguments, means, right, missed)
    document = VerifyDocument(
        artifacts=tuple(_verified(item, right.get((item.record.target, item.record.precision))) for item in checked),
        missed=tuple(missed.values()),
        signed_by=signed,
        exit_code=int(code),
        probes=Golden.load(bundle.golden).digest if bundle.golden else "",
    )
    text: list[Part] = [Table(told.columns, _with_further(told.rows, checked))]
    text += [f"signed by {signed}"] if signed else []
    for item in checked:
        text += words.further_words(_subject(item), _shown(item))
        text += [f"{_subject(item)}: {reason}" for reason in (item.evidence.reasons if item.evidence else ())]
        text += [Aside(str(item.error), f"{_subject(item)}: {_not_run(means)}")] if item.error else []
    text += [Aside(str(each)) for each in missed.values()]
    text += ["", f"Proven: {told.sentence}", *_next(checked, code, arguments, missed)]
    return Answer(document, text, code)


def _with_further(rows: Sequence[Sequence[str]], checked: Sequence[Checked]) -> list[Sequence[str]]:
    """``rows``, one for each of ``checked``, with those of the engine's defaults and of other interpreters below."""
    found: list[Sequence[str]] = []
    for row, item in zip(rows, checked):
        more = words.further_rows(item.record.target, item.record.files[0].path, _shown(item))
        found += [row, *((*one, *["-"] * (len(row) - len(one))) for one in more)]
    return found


def _next(
    checked: Sequence[Checked], code: Exit, arguments: argparse.Namespace, missed: Mapping[str, Shortfall]
) -> list[str]:
    """What to do next, depending on the findings."""
    failed = next((item.record for item in checked if item.evidence and item.evidence.verdict is Verdict.FAIL), None)
    if failed and arguments.path.is_dir():
        artifact = arguments.path / failed.files[0].path
        again = ["verify", "--against", "MODEL", artifact, "--reproduce", "case"]
        why = "To see where it differs from the checkpoint MODEL"
        # A board has no checkpoint and no exporters: that command must be run on the host.
        return words.next_step([OURS, *again], f"{why}, on the host" if in_runner() else why, on_host=True)
    if todo := next((each.todo for each in missed.values() if each.todo), ""):
        return [f"Next:   {todo}"]
    if code is not Exit.OK:
        return words.next_step([OURS, "doctor"])
    if in_runner():
        return []
    if arguments.path.is_dir():
        return words.next_step([OURS, "pack", arguments.path])
    return words.next_step([OURS, "pack", "--runner"], "To verify it on a device")


def _missed(checked: Sequence[Checked], arguments: argparse.Namespace, means: Means) -> dict[str, Shortfall]:
    """The artifacts below ``--require``, by subject."""
    here = proof() if arguments.require is EvidenceLevel.MEASURED_ON_DEVICE and not means.emulated else None
    found = {
        _subject(item): shortfall(
            item.record.target,
            item.record.precision,
            _shown(item).level,
            arguments.require,
            bundle=shlex.quote(str(arguments.path)),
            error=item.error,
            emulated=bool(means.emulated),
            here=here,
        )
        for item in checked
    }
    return {subject: each for subject, each in found.items() if each}


def _subject(item: Checked) -> str:
    """Target and precision, which identify an artifact in its bundle."""
    return f"{item.record.target} {item.record.precision}"


def _not_run(means: Means) -> str:
    return f"did not run on {means.emulated}" if means.emulated else "not run here"


def _tell(
    told: Handover,
    checked: Sequence[Checked],
    arguments: argparse.Namespace,
    means: Means,
    right: Mapping[labelled.Key, Accuracy],
    missed: Mapping[str, Shortfall],
) -> None:
    """Fill in the output for CI: every check of every artifact, its accuracy, and what could not be run here."""
    told.columns, told.rows = words.ARTIFACT_COLUMNS, [words.artifact_row(c.record, _shown(c)) for c in checked]
    told.sentence = words.proven([_shown(item) for item in checked])
    if right:
        ends = [labelled.cells(right.get((item.record.target, item.record.precision))) for item in checked]
        told.columns = (*told.columns, *labelled.COLUMNS)
        told.rows = [(*row, *end) for row, end in zip(told.rows, ends)]
        told.sentence += f". {labelled.sentence(right)}"
    for item in checked:
        subject = _subject(item)
        on = ("--device", means.emulated) if means.emulated else ()
        again = command("verify", arguments.path, "--target", item.record.target, *on)
        if item.error:
            verdict = Verdict.FAIL if _code(item, arguments) else Verdict.UNVERIFIED
            told.checks.append(Check(subject, "run", verdict, f"{subject}: {_not_run(means)}: {item.error}"))
        if item.evidence:
            why = missed[subject].why if subject in missed else ""
            told.checks += artifact_checks(subject, item.evidence, again, required=arguments.require, why=why)


def _code(item: Checked, arguments: argparse.Namespace) -> Exit:
    """The exit code of one artifact; a missing engine counts only if it, its target, or a run was requested."""
    if (
        isinstance(item.error, UnavailableError)
        and not arguments.target
        and item.record.target not in targets_on(arguments.provider)
        and arguments.require <= EvidenceLevel.COMPILED
    ):
        return Exit.OK
    return item.exit_code


def _shown(item: Checked) -> Evidence:
    """The evidence from here; a level that needs no run (parsed, compiled) is taken from the export."""
    recorded = item.record.evidence.level
    return item.evidence or Evidence(recorded if recorded <= EvidenceLevel.COMPILED else EvidenceLevel.EXPORTED)


def _verified(item: Checked, right: Accuracy | None) -> Verified:
    error = str(item.error) if item.error else None
    return Verified(item.record.target, item.record.precision, item.evidence, error, right)
