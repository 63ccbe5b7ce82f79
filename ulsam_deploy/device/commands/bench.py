"""``ulsam-deploy bench``: how long each artifact of a bundle takes on this machine, and which is the fastest."""

from __future__ import annotations

import argparse
import dataclasses
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from ulsam_deploy.device.bench.board import Board
from ulsam_deploy.device.bench.profiles import PROFILES, Profile
from ulsam_deploy.device.bench.turns import Plan
from ulsam_deploy.device.benchmark import Benched, Wanted, bench_bundles
from ulsam_deploy.device.bundle import read_bundle
from ulsam_deploy.device.bundle.kinds import RESULT
from ulsam_deploy.device.bundle.output import Output
from ulsam_deploy.device.commands import timings, words
from ulsam_deploy.device.commands.arguments import limits, targets_of
from ulsam_deploy.device.commands.ci import handover
from ulsam_deploy.device.errors import Exit, UnavailableError, UsageError, combine
from ulsam_deploy.device.printing import say


def run(arguments: argparse.Namespace) -> Exit:
    """Time the artifacts of a bundle, or of two in turns, on this machine."""
    outputs = [_output(arguments, path) for path in (arguments.output, arguments.beside_output)]
    with handover(arguments, arguments.bundle.name, *filter(None, outputs)) as told:
        paths = [arguments.bundle, *([arguments.beside] if arguments.beside else [])]
        benched = bench_bundles([read_bundle(path) for path in paths], _wanted(arguments), Board(), _tell)
        results = [each.result for each in benched]
        for result, output in zip(results, outputs):
            if output:
                output.write(result.to_json().encode())
        named = dict(zip(("this", "beside"), results)) if arguments.beside else {"": results[0]}
        told.columns, told.rows = timings.COLUMNS, timings.rows(named)
        told.sentence = timings.sentence(results[0])
        told.checks += [check for result in results for check in timings.checks(result)]
    if arguments.json:
        sys.stdout.write(results[0].to_json())
    else:
        words.print_table(told.columns, told.rows)
        for name, result in named.items():
            say(*timings.remarks(result, name).split("\n"))
    return combine(_code(each, targets_of(arguments)) for each in benched)


def _tell(text: str) -> None:
    say(*text.splitlines(), error=True)


def _code(each: Benched, named: Sequence[str]) -> Exit:
    """An artifact that couldn't be timed counts as well; one without an engine only where it was asked for by name."""
    left = (
        error.exit_code
        for label, error in each.left_out.items()
        if not isinstance(error, UnavailableError) or label.partition(" ")[0] in named
    )
    return combine([timings.code(each.result), *left])


def _wanted(arguments: argparse.Namespace) -> Wanted:
    allowed = os.sched_getaffinity(0)
    missing = [str(cpu) for cpu in arguments.cpus if cpu not in allowed]
    if missing:
        raise UsageError(
            f"processor {', '.join(missing)} isn't ours here", expected=", ".join(map(str, sorted(allowed)))
        )
    plan = Plan(profile_of(arguments), arguments.threads, arguments.cpus)
    return Wanted(
        plan,
        targets_of(arguments),
        arguments.batch,
        arguments.inputs,
        limits(arguments),
    )


def profile_of(arguments: argparse.Namespace) -> Profile:
    """The named profile, with the rounds that were asked for."""
    profile = PROFILES[arguments.profile]
    return dataclasses.replace(profile, rounds=arguments.rounds) if arguments.rounds else profile


def _output(arguments: argparse.Namespace, path: Path | None) -> Output | None:
    return Output(path, RESULT, arguments.force) if path is not None else None
