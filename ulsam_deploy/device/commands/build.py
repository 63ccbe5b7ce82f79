"""``ulsam-deploy build``: a TensorRT kit to the engine of this machine. No torch: it runs on a Jetson."""

from __future__ import annotations

import argparse

from ulsam_deploy.device import plugins
from ulsam_deploy.device.bundle import MANIFEST
from ulsam_deploy.device.bundle.output import check_folder
from ulsam_deploy.device.commands import words
from ulsam_deploy.device.errors import Exit, UsageError
from ulsam_deploy.device.printing import say

#: What makes a folder a kit.
RECIPE = "build.json"


def run(arguments: argparse.Namespace) -> Exit:
    """Build, and print where the engine lies."""
    kit = arguments.kit
    name = kit.resolve().name
    if not (kit / RECIPE).is_file():
        raise UsageError(f"'{kit}' is no TensorRT kit: it has no {RECIPE}", expected="the trt folder of a bundle")
    output = arguments.output or (kit if kit.name == name else kit.resolve()).with_name(name + ".engine")
    if (output.resolve().parent / MANIFEST).is_file():
        raise UsageError(
            "the engine would lie inside the bundle, which would then hold more than its manifest says",
            expected="a folder outside the bundle",
            todo="give one with --output",
        )
    nearest = next(place for place in output.resolve().parents if place.is_dir())
    check_folder(nearest, f"'{output}'", todo="give one with --output")
    plan = plugins.load(plugins.RUNTIMES, "tensorrt").build(kit, output, force=arguments.force)
    if arguments.json:
        words.print_json("build", {"engine": str(plan)})
    else:
        say(f"The engine is {plan}")
    return Exit.OK
