"""``ulsam-deploy bench``: how long each artifact of a bundle takes on this machine, and which is the fastest."""

from __future__ import annotations

import argparse
import dataclasses
import os
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING

from ulsam_deploy.device.commands.answer import Answer, Part, Table
from ulsam_deploy.device.commands.arguments import (
    add_ci_options,
    add_limits,
    add_provider,
    add_target,
    limits,
    targets_of,
    value,
)
from ulsam_deploy.device.commands.reading import Parser
from ulsam_deploy.device.errors import Exit, UnavailableError, UsageError, combine
from ulsam_deploy.device.printing import say

if TYPE_CHECKING:
    from ulsam_deploy.device.benchmark import Benched, Wanted
    from ulsam_deploy.device.bundle.output import Output

HELP = "time every artifact of a bundle that can run here, in turns, and say which is fastest"


def add_words(parser: Parser) -> None:
    """Declare the options that a board and the host have in common."""
    from ulsam_deploy.device.bench.profiles import PROFILES

    words = parser.words
    words.add("bundle", type=Path, metavar="BUNDLE", help="a bundle folder or .zip")
    add_target(words, "time these targets only")
    words.add("-o", "--output", type=Path, metavar="FILE", help="write the result file, with every sample")
    add_ci_options(words)
    how = parser.group("how to measure")
    how.add(
        "--profile",
        choices=tuple(PROFILES),
        default="default",
        help="; ".join(f"{p.name}: {p.min_seconds:g} s and {p.min_count} samples each" for p in PROFILES.values()),
    )
    how.add(
        "--rounds", type=value(count), metavar="N", help="fresh processes for each artifact (default: the profile's)"
    )
    how.add("--threads", type=value(count), metavar="N", help="of each engine (default: its own choice)")
    add_provider(how)
    how.add("--batch", type=value(count), metavar="N", help="inputs per call, for artifacts with a dynamic batch")
    how.add("--cpus", type=value(cpus), default=(), metavar="0-3,6", help="pin the processes to these")
    how.add("--inputs", type=Path, metavar="FILE.npz", help="feed these arrays (default: the bundle's probes)")
    how.add(
        "--beside",
        type=Path,
        metavar="BUNDLE",
        help="time this one in turns with it, such as the build before a change",
    )
    how.add("--beside-output", type=Path, metavar="FILE", help="write the result file of that bundle")
    add_limits(parser)


def count(text: str) -> int:
    """A whole number from 1 on; raises :class:`UsageError`."""
    if not text.isdecimal() or int(text) < 1:
        raise UsageError(f"'{text}' is not a count", expected="a whole number from 1 on")
    return int(text)


def cpus(text: str) -> tuple[int, ...]:
    """Processors as the kernel lists them, ``0-3,6``; raises :class:`UsageError`."""
    found: set[int] = set()
    for part in text.split(","):
        first, _, last = part.strip().partition("-")
        if not first.isdecimal() or not (last or first).isdecimal() or int(last or first) < int(first):
            raise UsageError(f"'{text}' is not a list of processors", expected="numbers and ranges, as in 0-3,6")
        found |= set(range(int(first), int(last or first) + 1))
    return tuple(sorted(found))


def run(arguments: argparse.Namespace) -> Answer:
    """Time the artifacts of a bundle, or of two bundles in turns, on this machine."""
    from ulsam_deploy.device.bench.board import Board
    from ulsam_deploy.device.benchmark import bench_bundles
    from ulsam_deploy.device.bundle import read_bundle
    from ulsam_deploy.device.commands import timings
    from ulsam_deploy.device.commands.ci import handover
    from ulsam_deploy.device.verify import targets_on

    outputs = [_output(arguments, path) for path in (arguments.output, arguments.beside_output)]
    with handover(arguments, arguments.bundle, *filter(None, outputs)) as told:
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
    named_targets = {*targets_of(arguments), *targets_on(arguments.provider)}
    text: list[Part] = [Table(told.columns, told.rows)]
    for name, result in named.items():
        text += timings.remarks(result, name)
    return Answer(results[0], text, combine(_code(each, named_targets) for each in benched))


def _tell(text: str) -> None:
    say(*text.splitlines(), error=True)


def _code(each: Benched, named: Collection[str]) -> Exit:
    """An artifact that couldn't be timed counts as well; one without an engine only if it was requested by name."""
    from ulsam_deploy.device.commands import timings

    left = (
        error.exit_code
        for label, error in each.left_out.items()
        if not isinstance(error, UnavailableError) or label.partition(" ")[0] in named
    )
    return combine([timings.code(each.result), *left])


def _wanted(arguments: argparse.Namespace) -> Wanted:
    from ulsam_deploy.device.bench.profiles import PROFILES
    from ulsam_deploy.device.bench.turns import Plan
    from ulsam_deploy.device.benchmark import Wanted

    allowed = os.sched_getaffinity(0)
    missing = [str(cpu) for cpu in arguments.cpus if cpu not in allowed]
    if missing:
        raise UsageError(
            f"processor {', '.join(missing)} is not available here", expected=", ".join(map(str, sorted(allowed)))
        )
    profile = PROFILES[arguments.profile]
    profile = dataclasses.replace(profile, rounds=arguments.rounds) if arguments.rounds else profile
    plan = Plan(profile, arguments.threads, arguments.cpus)
    targets = targets_of(arguments)
    return Wanted(plan, targets, arguments.batch, arguments.inputs, arguments.provider, limits(arguments))


def _output(arguments: argparse.Namespace, path: Path | None) -> Output | None:
    from ulsam_deploy.device.bundle.kinds import RESULT
    from ulsam_deploy.device.bundle.output import Output

    return Output(path, RESULT, arguments.force) if path is not None else None
