"""``ulsam-deploy pack``: a bundle folder as one ``.zip``, or the device runner as one ``.pyz``."""

from __future__ import annotations

import argparse
from pathlib import Path

from ulsam_deploy.boards.runner import write_runner
from ulsam_deploy.device.bundle import pack, read_bundle
from ulsam_deploy.device.commands import words
from ulsam_deploy.device.errors import Exit
from ulsam_deploy.device.printing import say


def run(arguments: argparse.Namespace) -> Exit:
    """Check the bundle's integrity, then pack it; the same bundle, or the same code, gives the same bytes."""
    if arguments.runner:
        output = write_runner(arguments.output or Path("runner.pyz"), force=arguments.force)
    else:
        path = arguments.output or Path(f"{arguments.bundle}.zip")
        output = pack(read_bundle(arguments.bundle), path, force=arguments.force)
    if arguments.json:
        words.print_json("pack", {"path": str(output), "size": output.stat().st_size})
    else:
        say(f"Made:   {output}, {words.size(output.stat().st_size)}")
        name = Path(output.name)
        there = ["python3", name, "doctor"] if arguments.runner else ["ulsam-deploy", "verify", name]
        words.say_next(there, "On the device")
    return Exit.OK
