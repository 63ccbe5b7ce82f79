"""``ulsam-deploy sign``: put a signature over all of its files into a bundle."""

from __future__ import annotations

import argparse

from ulsam_deploy.device.bundle import read_bundle
from ulsam_deploy.device.commands import words
from ulsam_deploy.device.errors import Exit, UsageError
from ulsam_deploy.device.printing import say
from ulsam_deploy.exporting import signing


def run(arguments: argparse.Namespace) -> Exit:
    """Check the bundle's integrity, then sign it, in place of an older signature."""
    if arguments.bundle.is_file():
        raise UsageError(
            f"{arguments.bundle} is a file", expected="a bundle folder", todo="sign the folder, then pack it again"
        )
    bundle = read_bundle(arguments.bundle)
    path = signing.sign_online(bundle) if arguments.online else signing.sign_with_key(bundle, arguments.key)
    if arguments.json:
        words.print_json("sign", {"path": str(path)})
    else:
        say(f"{path}: signs {len(list(bundle.manifest.members())) + 1} files")
    return Exit.OK
