"""``ulsam-deploy verify``: check again, here, what a bundle says of itself, or any artifact against a checkpoint."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping

from ulsam_deploy.bundle import Evidence, read_bundle, strict
from ulsam_deploy.cli import words
from ulsam_deploy.contracts import Tier
from ulsam_deploy.errors import Exit, UnavailableError, UsageError, combine
from ulsam_deploy.evidence import Checked, verify_bundle

#: Words that only make sense together with ``--against``, and what they are when not given.
AGAINST_ONLY: Mapping[str, object] = {
    "layout": None, "precision": None, "reproduce": None, "probes": None, "arch": None, "factory": None,
    "variant": None, "input": [], "trust_native": False, "trust_pickle": False, "allow_global": [], "no_cache": False,
}  # fmt: skip


def run(arguments: argparse.Namespace) -> Exit:
    """One of the two; they share the table and the meaning of the exit code."""
    if arguments.against:
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
    return _bundle(arguments)


def _bundle(arguments: argparse.Namespace) -> Exit:
    """Integrity first, then every artifact; an engine that is missing counts only when its target was asked for."""
    bundle = read_bundle(arguments.path)
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
