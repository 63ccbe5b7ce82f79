"""``ulsam-deploy export``: the command around :func:`ulsam_deploy.pipeline.export`."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from ulsam_deploy.bundle import strict
from ulsam_deploy.cli import words
from ulsam_deploy.cli.parser import model_options
from ulsam_deploy.errors import Exit
from ulsam_deploy.options import ExportOptions
from ulsam_deploy.pipeline import Exported, Outcome, export
from ulsam_deploy.progress import Progress


def options_from(arguments: argparse.Namespace) -> ExportOptions:
    """The words of the command line as options."""
    targets = [name for given in arguments.target or ["all"] for name in given.split(",")]
    return ExportOptions(
        model=arguments.model,
        targets=tuple(targets),
        output=arguments.output,
        batch=arguments.batch,
        precision=arguments.precision,
        probes=arguments.probes,
        device=arguments.device,
        dla=arguments.dla,
        require=arguments.require,
        **model_options(arguments),
        cache=not arguments.no_cache,
    )


def run(arguments: argparse.Namespace) -> Exit:
    """Export, print the table (or JSON) and what to type next."""
    options = options_from(arguments)
    result = export(options, Progress())
    if arguments.json:
        words.print_json("export", _document(result, options))
    else:
        _print(result, options)
    return result.exit_code


def _document(result: Exported, options: ExportOptions) -> dict[str, Any]:
    manifest = result.bundle.manifest if result.bundle else None
    return {
        "bundle": str(result.bundle.root) if result.bundle else None,
        "manifest": strict.encode(manifest, "manifest") if manifest else None,
        "left_out": {o.target: str(o.error) for o in result.outcomes if o.error},
        "missed": [o.target for o in result.outcomes if _missed(o, options)],
        "notes": list(result.notes),
        "exit_code": int(result.exit_code),
    }


def _missed(outcome: Outcome, options: ExportOptions) -> bool:
    return outcome.made is not None and outcome.made.evidence.tier < options.require


def _print(result: Exported, options: ExportOptions) -> None:
    bundle = result.bundle
    if bundle:
        rows = [words.artifact_row(record, record.evidence) for record in bundle.manifest.artifacts]
        print(words.table(words.ARTIFACT_COLUMNS, rows))
        for record in bundle.manifest.artifacts:
            for reason in record.evidence.reasons:
                print(f"{record.target}: {reason}")
    for outcome in result.outcomes:
        if outcome.error:
            sys.stderr.write(f"{outcome.target}: {outcome.error}\n")
        if _missed(outcome, options):
            tier = outcome.made.evidence.tier.label if outcome.made else ""
            sys.stderr.write(f"{outcome.target}: reached '{tier}', but --require {options.require.label} was asked\n")
    for note in result.notes:
        print(f"note: {note}")
    if bundle:
        print(f"\nThe bundle is {options.bundle}")
        print(f"Next: ulsam-deploy verify {options.bundle}     (again, here or on the device)")
    else:
        print("No artifact could be made, so no bundle was written.")
