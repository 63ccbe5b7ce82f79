"""``ulsam-deploy verify BUNDLE``: repeat the checks of a bundle on this machine."""

from __future__ import annotations

import argparse
from pathlib import Path

from ulsam_deploy.device.commands.answer import Answer
from ulsam_deploy.device.commands.arguments import add_ci_options, add_limits, add_provider, add_target, value
from ulsam_deploy.device.commands.reading import Group, Parser
from ulsam_deploy.device.types import EvidenceLevel

HELP = "check every artifact of a bundle that can run here"


def add_words(parser: Parser) -> None:
    """Declare the options of this command."""
    parser.words.add("path", type=Path, metavar="BUNDLE", help="a bundle folder or .zip")
    add_bundle_words(parser)


def add_bundle_words(parser: Parser) -> Group:
    """Declare the options that a board and the host have in common; returns the group about the signer of a bundle."""
    words = parser.words
    add_target(words, "check these targets only")
    add_provider(words)
    words.add(
        "--require",
        type=value(EvidenceLevel.from_label),
        default=EvidenceLevel.EXPORTED,
        metavar="LEVEL",
        help="evidence level that every artifact must reach here: " + ", ".join(level.label for level in EvidenceLevel),
    )
    words.add(
        "--data",
        type=Path,
        metavar="DIR|FILE.npz",
        help="labelled data, a folder per class or inputs and 'labels': how often each artifact of the bundle is "
        "right, against its first fp32 artifact, or with --against its checkpoint in PyTorch",
    )
    add_ci_options(words)
    add_limits(parser)
    who = parser.group("who made a bundle (see 'ulsam-deploy sign')")
    who.add("--key", type=Path, metavar="PUB.pem", help="refuse it unless this key's owner signed it")
    return who


def run(arguments: argparse.Namespace) -> Answer:
    """Verify a bundle on this machine."""
    from ulsam_deploy.device.commands.labelled import first_float
    from ulsam_deploy.device.commands.verify_bundle import Means, here, key_owner, verify

    return verify(arguments, Means(here, "", key_owner, first_float))
