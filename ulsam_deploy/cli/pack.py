"""``ulsam-deploy pack``: a bundle folder as one ``.zip``."""

from __future__ import annotations

import argparse
from pathlib import Path

from ulsam_deploy.bundle import pack, read_bundle
from ulsam_deploy.cli import words
from ulsam_deploy.errors import Exit


def run(arguments: argparse.Namespace) -> Exit:
    """Check the bundle's integrity, then pack it; the same bundle gives the same bytes."""
    bundle = read_bundle(arguments.bundle)
    output = pack(bundle, arguments.output or Path(f"{arguments.bundle}.zip"))
    if arguments.json:
        words.print_json("pack", {"path": str(output), "size": output.stat().st_size})
    else:
        print(f"{output}: {words.size(output.stat().st_size)}")
    return Exit.OK
