"""The words of ``ulsam-deploy bench`` for the machine that it runs on."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from ulsam_deploy.device.bench.profiles import PROFILES
from ulsam_deploy.device.commands.arguments import add_ci_options, add_limits, add_target, command, value
from ulsam_deploy.device.errors import UsageError


def add(commands: Any) -> None:
    """Add the command and its words."""
    add_words(commands)


def add_words(commands: Any) -> argparse.ArgumentParser:
    """The command with the words that a board and the host have in common."""
    parser = command(
        commands, "bench", "time every artifact of a bundle that can run here, in turns, and say which is fastest"
    )
    parser.add_argument("bundle", type=Path, metavar="BUNDLE", help="a bundle folder or .zip")
    add_target(parser, "time these targets only")
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help="write the result file, every sample in it")
    add_ci_options(parser)
    how = parser.add_argument_group("how to measure")
    how.add_argument(
        "--profile",
        choices=tuple(PROFILES),
        default="default",
        help="; ".join(f"{p.name}: {p.min_seconds:g} s and {p.min_count} samples each" for p in PROFILES.values()),
    )
    how.add_argument(
        "--rounds", type=value(count), metavar="N", help="fresh processes for each artifact (default: the profile's)"
    )
    how.add_argument("--threads", type=value(count), metavar="N", help="of each engine (default: its own choice)")
    how.add_argument(
        "--batch", type=value(count), metavar="N", help="inputs a call, for artifacts with a dynamic batch"
    )
    how.add_argument("--cpus", type=value(cpus), default=(), metavar="0-3,6", help="pin the processes to these")
    how.add_argument("--inputs", type=Path, metavar="FILE.npz", help="feed these arrays (default: the bundle's probes)")
    how.add_argument(
        "--beside",
        type=Path,
        metavar="BUNDLE",
        help="time this one in turns with it, such as the build before a change",
    )
    how.add_argument("--beside-output", type=Path, metavar="FILE", help="write the result file of that one")
    add_limits(parser)
    return parser


def count(text: str) -> int:
    """A whole number from 1 on; raises :class:`UsageError`."""
    if not text.isdecimal() or int(text) < 1:
        raise UsageError(f"'{text}' is no count", expected="a whole number from 1 on")
    return int(text)


def cpus(text: str) -> tuple[int, ...]:
    """Processors as the kernel lists them, ``0-3,6``; raises :class:`UsageError`."""
    found: set[int] = set()
    for part in text.split(","):
        first, _, last = part.strip().partition("-")
        if not first.isdecimal() or not (last or first).isdecimal() or int(last or first) < int(first):
            raise UsageError(f"'{text}' is no list of processors", expected="numbers and ranges, as in 0-3,6")
        found |= set(range(int(first), int(last or first) + 1))
    return tuple(sorted(found))
