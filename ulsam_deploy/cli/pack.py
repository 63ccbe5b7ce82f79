"""``ulsam-deploy pack``: a bundle folder as one ``.zip``, or the device runner as one ``.pyz``."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

from ulsam_deploy.device.commands.answer import Answer, path_text, schema_field
from ulsam_deploy.device.commands.arguments import add_force
from ulsam_deploy.device.commands.reading import Parser

HELP = "pack a bundle folder into one .zip, or make the device runner"


@dataclass(frozen=True)
class PackDocument:
    """``pack``: the file that was written, in bytes."""

    path: str
    size: int
    schema: str = schema_field("pack", 1)


def add_words(parser: Parser) -> None:
    """Declare the options of this command."""
    what = parser.one_of(required=True)
    what.add("bundle", type=Path, nargs="?", metavar="BUNDLE", help="a bundle folder")
    what.add("--runner", action="store_true", help="one Python file to check and time bundles on a device")
    words = parser.words
    words.add("-o", "--output", type=Path, metavar="FILE", help="default: the bundle's name + .zip; runner.pyz")
    add_force(words)


def run(arguments: argparse.Namespace) -> Answer:
    """Check the bundle's integrity, then pack it; the bytes are deterministic, also those of the runner."""
    from ulsam_deploy.boards.runner import write_runner
    from ulsam_deploy.device.bundle import pack, read_bundle
    from ulsam_deploy.device.commands.words import next_step, size

    if arguments.runner:
        output = write_runner(arguments.output or Path("runner.pyz"), force=arguments.force)
    else:
        path = arguments.output or Path(f"{arguments.bundle}.zip")
        output = pack(read_bundle(arguments.bundle), path, force=arguments.force)
    count, name = output.stat().st_size, Path(output.name)
    there = ["python3", name, "doctor"] if arguments.runner else ["ulsam-deploy", "verify", name]
    text = [f"Made:   {output}, {size(count)}", *next_step(there, "On the device")]
    return Answer(PackDocument(path_text(output), count), text)
