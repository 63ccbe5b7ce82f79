"""The words of ``ulsam-deploy verify`` for a bundle."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from ulsam_deploy.device.commands.arguments import add_ci_options, add_limits, add_target, command, value
from ulsam_deploy.device.types import Tier


def add(commands: Any) -> None:
    """Add the command and its words."""
    parser = command(commands, "verify", "check every artifact of a bundle that can run here")
    parser.add_argument("path", type=Path, metavar="BUNDLE", help="a bundle folder or .zip")
    add_words(parser)


def add_words(parser: argparse.ArgumentParser) -> argparse._ArgumentGroup:
    """The words that a board and the host have in common; returns the group about who made a bundle."""
    add_target(parser, "check these targets only")
    parser.add_argument(
        "--require",
        type=value(Tier.from_label),
        default=Tier.EXPORTED,
        metavar="TIER",
        help="least evidence that every artifact must reach here: " + ", ".join(tier.label for tier in Tier),
    )
    parser.add_argument(
        "--data",
        type=Path,
        metavar="DIR|FILE.npz",
        help="labelled data, a folder per class or inputs and 'labels': how often each artifact of the bundle is "
        "right, against its first fp32 artifact, or with --against its checkpoint in PyTorch",
    )
    add_ci_options(parser)
    add_limits(parser)
    who = parser.add_argument_group("who made a bundle (see 'ulsam-deploy sign')")
    who.add_argument("--key", type=Path, metavar="PUB.pem", help="refuse it unless this key's owner signed it")
    return who
