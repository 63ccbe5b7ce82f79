"""``ulsam-deploy verify``: check again, here, what a bundle says of itself, or any artifact against a checkpoint."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence

from ulsam_deploy.bundle import Bundle, Evidence, read_bundle, strict
from ulsam_deploy.bundle.signature import check_signature, read_public_key
from ulsam_deploy.cli import words
from ulsam_deploy.cli.arguments import limits
from ulsam_deploy.cli.ci import Handover, handover
from ulsam_deploy.contracts import Tier, Verdict
from ulsam_deploy.errors import Exit, UnavailableError, UsageError, combine
from ulsam_deploy.evidence import Checked, verify_bundle
from ulsam_deploy.report.checks import Check, artifact_checks

#: Words that only make sense together with ``--against``, and what they are when not given.
AGAINST_ONLY: Mapping[str, object] = {
    "layout": None, "precision": None, "reproduce": None, "probes": None, "arch": None, "factory": None,
    "variant": None, "input": [], "trust_native": False, "trust_pickle": False, "allow_global": [], "no_cache": False,
}  # fmt: skip


def run(arguments: argparse.Namespace) -> Exit:
    """One of the two; they share the table and the meaning of the exit code."""
    signer = {"key": arguments.key, "identity": arguments.identity, "issuer": arguments.issuer}
    if arguments.against:
        for name in (name for name, given in signer.items() if given):
            raise UsageError(f"--{name} is about who made a bundle", expected="a BUNDLE, without --against")
        from ulsam_deploy.cli import against

        return against.run(arguments)
    given = [name for name, default in AGAINST_ONLY.items() if getattr(arguments, name) != default]
    if given:
        option = "model" if given[0] == "factory" else given[0].replace("_", "-")
        raise UsageError(f"--{option} needs --against", expected="ulsam-deploy verify --against MODEL ARTIFACT")
    if arguments.path.is_file() and arguments.path.suffix != ".zip":
        raise UsageError(
            f"'{arguments.path}' is a file and not a bundle",
            expected="a bundle folder or .zip",
            todo=f"to hold an artifact against its checkpoint: ulsam-deploy verify --against MODEL {arguments.path}",
        )
    with handover(arguments, arguments.path.name) as told:
        return _bundle(arguments, told)


def _bundle(arguments: argparse.Namespace, told: Handover) -> Exit:
    """Integrity first, then every artifact; an engine that is missing counts only when its target was asked for."""
    bundle = read_bundle(arguments.path)
    signed = _signature(bundle, arguments)
    checked = verify_bundle(bundle, arguments.target or (), limits(arguments))
    code = combine(_code(item, arguments) for item in checked)
    if not any(item.evidence for item in checked) and code is Exit.OK:
        code = Exit.UNAVAILABLE  # nothing ran, so nothing was verified
    _tell(told, checked, arguments)
    if arguments.json:
        document = {"artifacts": [_document(item) for item in checked], "signed_by": signed, "exit_code": int(code)}
        words.print_json("verify", document)
        return code
    words.print_table(told.columns, told.rows)
    if signed:
        print(f"signed by {signed}")
    for item in checked:
        for reason in item.evidence.reasons if item.evidence else ():
            print(f"{item.record.target}: {reason}")
        if item.error:
            sys.stderr.write(f"{item.record.target}: not run here: {item.error}\n")
    print(f"\nProven: {told.sentence}")
    return code


def _tell(told: Handover, checked: Sequence[Checked], arguments: argparse.Namespace) -> None:
    """What CI reads: every check of every artifact, and what could not be run here."""
    told.columns, told.rows = words.ARTIFACT_COLUMNS, [words.artifact_row(c.record, _shown(c)) for c in checked]
    told.sentence = words.proven([_shown(item) for item in checked])
    for item in checked:
        subject = f"{item.record.target} {item.record.precision}"
        again = f"ulsam-deploy verify {arguments.path} --target {item.record.target}"
        if item.error:
            verdict = Verdict.FAIL if _code(item, arguments) else Verdict.UNVERIFIED
            told.checks.append(Check(subject, "run", verdict, f"{subject}: not run here: {item.error}"))
        if item.evidence:
            told.checks += artifact_checks(subject, item.evidence, again, required=arguments.require)


def _signature(bundle: Bundle, arguments: argparse.Namespace) -> str | None:
    """Check the signature that was asked about; returns who made it, ``None`` where nobody asked."""
    if bool(arguments.identity) != bool(arguments.issuer):
        raise UsageError("--identity and --issuer go together", expected="--identity WHO --issuer URL")
    if arguments.key:
        key = read_public_key(arguments.key)
        check_signature(bundle, key)
        return f"key {key.fingerprint}"
    if arguments.identity:
        from ulsam_deploy import signing

        signing.check_identity(bundle, arguments.identity, arguments.issuer)
        return str(arguments.identity)
    return None


def _code(item: Checked, arguments: argparse.Namespace) -> Exit:
    if isinstance(item.error, UnavailableError) and not arguments.target and arguments.require <= Tier.COMPILED:
        return Exit.OK
    if item.evidence and item.evidence.tier < arguments.require:
        return combine([item.exit_code, Exit.UNAVAILABLE])
    return item.exit_code


def _shown(item: Checked) -> Evidence:
    """What was seen here; a tier that needs no run (parsed, compiled) is carried over from the export."""
    recorded = item.record.evidence.tier
    return item.evidence or Evidence(recorded if recorded <= Tier.COMPILED else Tier.EXPORTED)


def _document(item: Checked) -> dict[str, object]:
    evidence = strict.encode(item.evidence, "evidence") if item.evidence else None
    return {
        "target": item.record.target,
        "precision": item.record.precision,
        "evidence": evidence,
        "error": str(item.error) if item.error else None,
    }
