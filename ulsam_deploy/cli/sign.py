"""``ulsam-deploy sign``: put a signature over all of its files into a bundle."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

from ulsam_deploy.device.commands.answer import Answer, path_text, schema_field
from ulsam_deploy.device.commands.reading import Parser
from ulsam_deploy.device.errors import UsageError

HELP = "sign a bundle folder, so that 'verify --key' can check who made it"


@dataclass(frozen=True)
class SignDocument:
    """``sign``: the signature."""

    path: str
    schema: str = schema_field("sign", 1)


def add_words(parser: Parser) -> None:
    """Declare the options of this command."""
    parser.words.add(
        "bundle", type=Path, metavar="BUNDLE", help="a bundle folder; an archive packed later is signed too"
    )
    by = parser.one_of(required=True)
    by.add("--key", type=Path, metavar="KEY.pem", help="your private key: elliptic curve P-256, P-384 or P-521")
    by.add("--online", action="store_true", help="with your identity, through Sigstore")


def run(arguments: argparse.Namespace) -> Answer:
    """Check the bundle's integrity, then sign it; an older signature is replaced."""
    from ulsam_deploy.device.bundle import read_bundle
    from ulsam_deploy.exporting import signing

    if arguments.bundle.is_file():
        raise UsageError(
            f"{arguments.bundle} is a file", expected="a bundle folder", todo="sign the folder, then pack it again"
        )
    bundle = read_bundle(arguments.bundle)
    path = signing.sign_online(bundle) if arguments.online else signing.sign_with_key(bundle, arguments.key)
    return Answer(SignDocument(path_text(path)), [f"{path}: signs {len(list(bundle.manifest.members())) + 1} files"])
