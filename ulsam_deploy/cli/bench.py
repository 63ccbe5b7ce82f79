"""``ulsam-deploy bench`` on the host: here, on boards, or instructions instead of time."""

from __future__ import annotations

import argparse

from ulsam_deploy.device.commands import bench
from ulsam_deploy.device.errors import Exit


def run(arguments: argparse.Namespace) -> Exit:
    """Here, or on every ``--host`` at once; with ``--count``, instructions on an emulated board instead."""
    if arguments.count:
        from ulsam_deploy.cli import counting

        return counting.run_count(arguments)
    if arguments.host:
        from ulsam_deploy.cli import bench_hosts

        return bench_hosts.run(arguments)
    return bench.run(arguments)
