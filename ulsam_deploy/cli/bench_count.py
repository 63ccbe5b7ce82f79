"""``ulsam-deploy bench --device NAME --count``: instructions on an emulated board, independent of other load."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass

from ulsam_deploy.boards import emulate
from ulsam_deploy.boards.emulate import Counted, Counts
from ulsam_deploy.device.bundle import read_bundle
from ulsam_deploy.device.checks import Check
from ulsam_deploy.device.commands.answer import Answer, Aside, Part, Table, schema_field
from ulsam_deploy.device.commands.arguments import targets_of
from ulsam_deploy.device.commands.ci import Handover, handover
from ulsam_deploy.device.errors import Exit, UnavailableError, combine
from ulsam_deploy.device.findings import Verdict
from ulsam_deploy.device.invocation import typed
from ulsam_deploy.device.progress import Progress

COLUMNS = ("target", "precision", "instructions", "load/store", "SIMD", "of it FMA", "of it dot", "branch", "first run")
_NAME = 90
_CLASSES = ("load_store", "simd", "fma", "dot_product", "branch")


@dataclass(frozen=True)
class CountedArtifact:
    """One artifact on an emulated board; ``error`` says why it was not counted."""

    target: str
    precision: str
    counts: Counts | None
    error: str | None


@dataclass(frozen=True)
class CountDocument:
    """``bench --device NAME --count``: instructions, which are not a latency, as ``note`` explains."""

    device: str
    note: str
    artifacts: tuple[CountedArtifact, ...]
    exit_code: int
    schema: str = schema_field("count", 2)


def run(arguments: argparse.Namespace) -> Answer:
    """Count every artifact that the board has an engine for; exit 1 if it exceeds a budget of the profile."""
    with handover(arguments, arguments.bundle) as told:
        bundle = read_bundle(arguments.bundle)
        counted = emulate.count_bundle(
            bundle, arguments.device, targets_of(arguments), Progress(beat=not arguments.json)
        )
        code = combine(_code(item, arguments) for item in counted)
        if not any(item.counts for item in counted) and code is Exit.OK:
            code = Exit.UNAVAILABLE  # nothing ran
        _tell(told, counted, arguments)
    artifacts = tuple(
        CountedArtifact(item.record.target, item.record.precision, item.counts, str(item.error) if item.error else None)
        for item in counted
    )
    text = [*_text(told, counted, arguments.device), "", emulate.NOTE]
    return Answer(CountDocument(arguments.device, emulate.NOTE, artifacts, int(code)), text, code)


def _code(item: Counted, arguments: argparse.Namespace) -> Exit:
    """The exit code; an engine that the board doesn't have counts only if its target was requested."""
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


def _text(told: Handover, counted: Sequence[Counted], board: str) -> list[Part]:
    text: list[Part] = [Table(told.columns, told.rows)] if told.rows else []
    for item in counted:
        subject = f"{item.record.target} {item.record.precision}"
        if item.error:
            text.append(Aside(str(item.error), f"{subject}: not counted on {board}"))
        if item.counts is None:
            continue
        text += ["", f"{subject}: where they go"]
        for kernel in item.counts.kernels:
            share = kernel.instructions / max(item.counts.inference.instructions, 1)
            library = f"  ({kernel.library})" if kernel.library else ""
            text.append(f"  {share:6.1%}  {kernel.name or 'everything else'}{library}")
        text += [f"{subject}: {over}" for over in item.counts.over]
    return text


def _short(name: str) -> str:
    """Shorten a C++ name, which may contain a page of types; the JSON document has the whole name."""
    return name if len(name) <= _NAME else f"{name[: _NAME - 3]}..."


def _row(item: Counted) -> tuple[str, ...]:
    assert item.counts is not None
    counts = item.counts
    classes = [counts.inference.classes.get(name, 0) for name in _CLASSES]
    shown = [millions(number) if any(classes) else "-" for number in classes]
    whole = millions(counts.inference.instructions)
    return (item.record.target, item.record.precision, whole, *shown, millions(counts.first.instructions))


def millions(count: float) -> str:
    """A number of instructions as readable text."""
    return f"{count / 1e6:.3f} M"
