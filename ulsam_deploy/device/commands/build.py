"""``ulsam-deploy build``: builds a TensorRT kit into an engine for this machine. No torch: it runs on a Jetson."""

from __future__ import annotations

import argparse
from pathlib import Path

from ulsam_deploy.device.commands.answer import Answer, path_text
from ulsam_deploy.device.commands.arguments import add_force
from ulsam_deploy.device.commands.reading import Parser
from ulsam_deploy.device.errors import UsageError

HELP = "build the engine of a TensorRT kit on this machine"
#: The file that identifies a folder as a kit.
RECIPE = "build.json"


def add_words(parser: Parser) -> None:
    """Declare the options of this command."""
    words = parser.words
    words.add("kit", type=Path, metavar="KIT", help="the trt folder of a bundle: model.onnx and build.json")
    words.add(
        "-o", "--output", type=Path, metavar="DIR", help="the folder (default: KIT's name + .engine, outside a bundle)"
    )
    add_force(words)


def run(arguments: argparse.Namespace) -> Answer:
    """Build, and print the path of the engine."""
    from ulsam_deploy.device import plugins
    from ulsam_deploy.device.bundle import MANIFEST
    from ulsam_deploy.device.bundle.output import check_folder
    from ulsam_deploy.device.commands.documents import BuildDocument

    kit = arguments.kit
    name = kit.resolve().name
    if not (kit / RECIPE).is_file():
        raise UsageError(f"'{kit}' is no TensorRT kit: it has no {RECIPE}", expected="the trt folder of a bundle")
    output = arguments.output or (kit if kit.name == name else kit.resolve()).with_name(name + ".engine")
    if (output.resolve().parent / MANIFEST).is_file():
        raise UsageError(
            "the engine would be inside the bundle, which would then contain more than its manifest lists",
            expected="a folder outside the bundle",
            todo="give one with --output",
        )
    nearest = next(place for place in output.resolve().parents if place.is_dir())
    check_folder(nearest, f"'{output}'", todo="give one with --output")
    plan = plugins.load(plugins.RUNTIMES, "tensorrt").build(kit, output, force=arguments.force)
    return Answer(BuildDocument(path_text(plan)), [f"The engine is {plan}"])
