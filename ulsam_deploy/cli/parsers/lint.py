"""The words of ``ulsam-deploy lint``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ulsam_deploy.cli.arguments import add_model_options
from ulsam_deploy.device.commands.arguments import add_preprocessing, command


def add(commands: Any) -> None:
    """Add the command and its words."""
    parser = command(commands, "lint", "forecast what int8, fp16 and bf16 leave of each block's attention")
    parser.add_argument("model", type=Path, metavar="MODEL", help="a checkpoint: torch.save or safetensors")
    parser.add_argument("--probes", type=Path, metavar="FILE.npz|DIR", help="inputs like the real ones to look at")
    add_preprocessing(parser)
    parser.add_argument("--no-cache", action="store_true", help="do everything again, and keep nothing")
    add_model_options(parser)
