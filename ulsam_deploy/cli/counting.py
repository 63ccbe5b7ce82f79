"""``ulsam-deploy bench --device NAME --count``: instructions on an emulated board, which no other load disturbs."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ulsam_deploy.device import codec
from ulsam_deploy.device.checks import Check
from ulsam_deploy.device.commands import words
from ulsam_deploy.device.commands.arguments import targets_of
from ulsam_deploy.device.commands.ci import Handover, handover
from ulsam_deploy.device.errors import Exit, UnavailableError, combine
from ulsam_deploy.device.findings import Verdict
from ulsam_deploy.device.invocation import typed
from ulsam_deploy.device.printing import complain, say

if TYPE_CHECKING:
    from ulsam_deploy.boards.emulate import Counted

COLUMNS = ("target", "precision", "instructions", "load/store", "SIMD", "of it FMA", "of it dot", "branch", "first run")
_NAME = 90
_CLASSES = ("load_store", "simd", "fma", "dot_product", "branch")


def add_count_words(parser: argparse._ActionsContainer) -> None:
    """The words of counting."""
    parser.add_argument("--device", metavar="NAME", help="the board: rpi3, rpi4, rpi5, rpi4-32bit or one of your own")
    parser.add_argument(
        "--count", action="store_true", help="count instructions on the emulated board; a count, not a latency"
    )


def run_count(arguments: argparse.Namespace) -> Exit:
    """Count every artifact that the board has an engine for; a budget of the profile that is exceeded is exit 1."""
    from ulsam_deploy.boards import emulate
    from ulsam_deploy.device.bundle import read_bundle
    from ulsam_deploy.device.progress import Progress

    with handover(arguments, arguments.bundle.name) as told:
        bundle = read_bundle(arguments.bundle)
        counted = emulate.count_bundle(
            bundle, arguments.device, targets_of(arguments), Progress(beat=not arguments.json)
        )
        code = combine(_code(item, arguments) for item in counted)
        if not any(item.counts for item in counted) and code is Exit.OK:
            code = Exit.UNAVAILABLE  # nothing ran
        _tell(told, counted, arguments)
    if arguments.json:
        artifacts = [_document(item) for item in counted]
        document = {"device": arguments.device, "note": emulate.NOTE, "artifacts": artifacts, "exit_code": int(code)}
        words.print_json("count", document)
    else:
        _print(told, counted, arguments.device)
        say("", emulate.NOTE)
    return code


def _code(item: Counted, arguments: argparse.Namespace) -> Exit:
    """An engine that the board doesn't have counts only where its target was asked for."""
    return Exit.OK if isinstance(item.error, UnavailableError) and not arguments.target else item.exit_code


def _tell(told: Handover, counted: Sequence[Counted], arguments: argparse.Namespace) -> None:
    told.columns, told.rows = COLUMNS, [_row(item) for item in counted if item.counts]
    told.sentence = f"Instructions of one inference on an emulated {arguments.device}: a count, not a latency"
    for item in counted:
        subject = f"{item.record.target} {item.record.precision}"
        if item.error:
            verdict = Verdict.FAIL if _code(item, arguments) else Verdict.UNVERIFIED
            told.checks.append(Check(subject, "count", verdict, f"{subject}: not counted: {item.error}"))
        elif item.counts:
            over = "; ".join(item.counts.over)
            again = typed("ulsam-deploy", "bench", arguments.bundle, "--device", arguments.device, "--count")
            text = f"{subject}: {over}\nTo see it again: {again}" if over else ""
            told.checks.append(Check(subject, "budget", Verdict.FAIL if over else Verdict.PASS, text))


def _print(told: Handover, counted: Sequence[Counted], board: str) -> None:
    if told.rows:
        words.print_table(told.columns, told.rows)
    for item in counted:
        subject = f"{item.record.target} {item.record.precision}"
        if item.error:
            complain(item.error, f"{subject}: not counted on {board}")
        if item.counts is None:
            continue
        say("", f"{subject}: where they go")
        for kernel in item.counts.kernels:
            share = kernel.instructions / max(item.counts.inference.instructions, 1)
            say(f"  {share:6.1%}  {kernel.name or 'everything else'}" + f"  ({kernel.library})" * bool(kernel.library))
        for over in item.counts.over:
            say(f"{subject}: {over}")


def _short(name: str) -> str:
    """A C++ name may hold a page of types; the JSON document has all of it."""
    return name if len(name) <= _NAME else f"{name[: _NAME - 3]}..."


def _row(item: Counted) -> tuple[str, ...]:
    assert item.counts is not None
    counts = item.counts
    classes = [counts.inference.classes.get(name, 0) for name in _CLASSES]
    shown = [millions(number) if any(classes) else "-" for number in classes]
    whole = millions(counts.inference.instructions)
    return (item.record.target, item.record.precision, whole, *shown, millions(counts.first.instructions))


def millions(count: float) -> str:
    """Instructions as people say them."""
    return f"{count / 1e6:.3f} M"


def _document(item: Counted) -> dict[str, Any]:
    return {
        "target": item.record.target,
        "precision": item.record.precision,
        "counts": codec.encode(item.counts, "counts") if item.counts else None,
        "error": str(item.error) if item.error else None,
    }
