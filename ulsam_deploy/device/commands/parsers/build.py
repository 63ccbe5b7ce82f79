"""The words of ``ulsam-deploy build``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ulsam_deploy.device.commands.arguments import add_force, command


def add(commands: Any) -> None:
    """Add the command and its words."""
    parser = command(commands, "build", "build the engine of a TensorRT kit on this machine")
    parser.add_argument("kit", type=Path, metavar="KIT", help="the trt folder of a bundle: model.onnx and build.json")
    parser.add_argument(
        "-o", "--output", type=Path, metavar="DIR", help="where to (default: KIT's name + .engine, outside a bundle)"
    )
    add_force(parser)
