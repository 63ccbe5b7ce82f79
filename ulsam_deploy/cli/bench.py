"""``ulsam-deploy bench``: what an artifact costs."""

from __future__ import annotations

import argparse

from ulsam_deploy.cli.counting import run_count
from ulsam_deploy.errors import Exit, UsageError


def run(arguments: argparse.Namespace) -> Exit:
    """Count instructions on an emulated board."""
    if not (arguments.count and arguments.device):
        raise UsageError("bench counts instructions only so far", expected="--device NAME --count")
    return run_count(arguments)
