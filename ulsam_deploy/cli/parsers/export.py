"""The words of ``ulsam-deploy export``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ulsam_deploy.cli.arguments import add_model_options
from ulsam_deploy.device import precisions
from ulsam_deploy.device.commands.arguments import add_ci_options, add_preprocessing, add_target, command, value
from ulsam_deploy.device.types import Tier
from ulsam_deploy.exporting import options


def add(commands: Any) -> None:
    """Add the command and its words."""
    parser = command(commands, "export", "take a checkpoint to verified artifacts in one bundle")
    parser.add_argument("model", type=Path, metavar="MODEL", help="a checkpoint (torch.save, safetensors) or an .onnx")
    add_target(parser, "onnx, openvino, tflite, trt or all, or an engine's name (default: all that is installed)")
    parser.add_argument("-o", "--output", type=Path, metavar="DIR", help="the bundle (default: MODEL's name + .bundle)")
    add_model_options(parser)
    parser.add_argument(
        "--batch", type=value(options.parse_batch), default=1, metavar="N", help="batch size, or 'dynamic' (default 1)"
    )
    parser.add_argument(
        "--precision",
        action="append",
        type=value(precisions.parse_precisions),
        metavar="NAME",
        help=f"of the artifacts, repeated or comma-separated: {', '.join(precisions.PRECISIONS)}, or "
        "auto: the fastest within a budget (default fp32)",
    )
    parser.add_argument(
        "--calibration",
        type=Path,
        metavar="FILE.npz|DIR",
        help="inputs like the real ones, which int8 takes ranges from",
    )
    parser.add_argument(
        "--keep", action="append", default=[], metavar="MODULE", help="leave this module (its path) in floating point"
    )
    parser.add_argument(
        "--tune", action="store_true", help="time the equal forms of each attention block here, and take the fastest"
    )
    auto = parser.add_argument_group("--precision auto (see docs/auto.md)")
    auto.add_argument("--budget", type=Path, metavar="FILE.toml", help="limits, in its table [budget]")
    auto.add_argument(
        "--limit",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="one limit, stronger than the file's: drop (points of top-1), error (noise floors), liveness, size",
    )
    auto.add_argument(
        "--data", type=Path, metavar="DIR|FILE.npz", help="labelled data: a folder per class, or inputs and 'labels'"
    )
    auto.add_argument(
        "--recipe", type=Path, metavar="FILE.toml", help="make what an earlier search chose: a bundle's recipe.toml"
    )
    parser.add_argument("--probes", type=Path, metavar="FILE.npz|DIR", help="your own inputs, checked besides ours")
    add_preprocessing(parser)
    parser.add_argument("--device", default="", metavar="NAME", help="a device profile, such as jetson-orin-jp6")
    parser.add_argument("--dla", action="store_true", help="for the device's deep learning accelerator (trt only)")
    parser.add_argument(
        "--require",
        type=value(Tier.from_label),
        default=Tier.EXPORTED,
        metavar="TIER",
        help="least evidence that counts as success: " + ", ".join(tier.label for tier in options.REACHABLE),
    )
    parser.add_argument("--save-config", type=Path, metavar="FILE.toml", help="write these words down, and go on")
    parser.add_argument("--dry-run", action="store_true", help="say what would be done, or refused; write nothing")
    parser.add_argument("--no-cache", action="store_true", help="do everything again, and keep nothing")
    add_ci_options(parser)
