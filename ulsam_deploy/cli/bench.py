"""``ulsam-deploy bench`` on the host: timing here or on boards, or counting instructions."""

from __future__ import annotations

import argparse

from ulsam_deploy.cli.arguments import add_host_options
from ulsam_deploy.device.commands import bench
from ulsam_deploy.device.commands.answer import Answer
from ulsam_deploy.device.commands.reading import Parser

HELP = bench.HELP


def add_words(parser: Parser) -> None:
    """Declare the options of this command."""
    bench.add_words(parser)
    count = parser.group("instructions instead of time")
    count.add("--device", metavar="NAME", help="the board: rpi3, rpi4, rpi5, rpi4-32bit or one of your own")
    count.add("--count", action="store_true", help="count instructions on the emulated board; a count, not a latency")
    add_host_options(parser)


def run(arguments: argparse.Namespace) -> Answer:
    """Time here, or on every ``--host`` in parallel; with ``--count``, count instructions on an emulated board."""
    if arguments.count:
        from ulsam_deploy.cli import bench_count

        return bench_count.run(arguments)
    if arguments.host:
        from ulsam_deploy.cli import bench_hosts

        return bench_hosts.run(arguments)
    return bench.run(arguments)
