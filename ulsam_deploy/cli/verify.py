"""``ulsam-deploy verify``: check again, here, what a bundle says of itself."""

from __future__ import annotations

import argparse
import sys

from ulsam_deploy.bundle import Evidence, read_bundle, strict
from ulsam_deploy.cli import words
from ulsam_deploy.contracts import Tier
from ulsam_deploy.errors import Exit, UnavailableError, combine
from ulsam_deploy.evidence import Checked, verify_bundle


def run(arguments: argparse.Namespace) -> Exit:
    """Integrity first, then every artifact; an engine that is missing counts only when its target was asked for."""
    bundle = read_bundle(arguments.bundle)
    checked = verify_bundle(bundle, arguments.target or ())
    code = combine(_code(item, arguments) for item in checked)
    if not any(item.evidence for item in checked) and code is Exit.OK:
        code = Exit.UNAVAILABLE  # nothing ran, so nothing was verified
    if arguments.json:
        words.print_json("verify", {"artifacts": [_document(item) for item in checked], "exit_code": int(code)})
        return code
    print(words.table(words.ARTIFACT_COLUMNS, [words.artifact_row(c.record, _shown(c)) for c in checked]))
    for item in checked:
        for reason in item.evidence.reasons if item.evidence else ():
            print(f"{item.record.target}: {reason}")
        if item.error:
            sys.stderr.write(f"{item.record.target}: not run here: {item.error}\n")
    return code


def _code(item: Checked, arguments: argparse.Namespace) -> Exit:
    if isinstance(item.error, UnavailableError) and not arguments.target and arguments.require <= Tier.COMPILED:
        return Exit.OK
    if item.evidence and item.evidence.tier < arguments.require:
        return combine([item.exit_code, Exit.UNAVAILABLE])
    return item.exit_code


def _shown(item: Checked) -> Evidence:
    """What was seen here; the tier that needs no run (parsed, compiled) is carried over from the export."""
    return item.evidence or Evidence(min(item.record.evidence.tier, Tier.COMPILED))


def _document(item: Checked) -> dict[str, object]:
    evidence = strict.encode(item.evidence, "evidence") if item.evidence else None
    return {
        "target": item.record.target,
        "precision": item.record.precision,
        "evidence": evidence,
        "error": str(item.error) if item.error else None,
    }
