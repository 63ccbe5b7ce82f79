"""The words of ``ulsam-deploy verify``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ulsam_deploy.cli.arguments import (
    add_ci_options,
    add_host_options,
    add_model_options,
    add_preprocessing,
    add_target,
    command,
    positive,
    value,
)
from ulsam_deploy.device.precisions import PRECISIONS, parse_precision
from ulsam_deploy.device.types import Tier


def add(commands: Any) -> None:
    """Add the command and its words."""
    parser = command(
        commands, "verify", "check every artifact of a bundle that can run here, or any artifact against a checkpoint"
    )
    parser.add_argument("path", type=Path, metavar="BUNDLE|ARTIFACT", help="a bundle; or an artifact, with --against")
    add_target(parser, "check these targets only")
    parser.add_argument(
        "--require",
        type=value(Tier.from_label),
        default=Tier.EXPORTED,
        metavar="TIER",
        help="least evidence that every artifact must reach here: " + ", ".join(tier.label for tier in Tier),
    )
    parser.add_argument("--device", metavar="NAME", help="on this board, in emulation: rpi3, rpi4, rpi5, rpi4-32bit")
    parser.add_argument(
        "--data",
        type=Path,
        metavar="DIR|FILE.npz",
        help="labelled data, a folder per class or inputs and 'labels': how often each artifact of the bundle is "
        "right, against its first fp32 artifact, or with --against its checkpoint in PyTorch",
    )
    add_ci_options(parser)
    add_host_options(parser)
    bounds = parser.add_argument_group("what an artifact may take in the process of its own that it is opened in")
    bounds.add_argument(
        "--time-limit", type=value(positive), default=300.0, metavar="SECONDS", help="for each run (default 300)"
    )
    bounds.add_argument(
        "--memory-limit", type=value(positive), default=8.0, metavar="GIB", help="of address space (default 8)"
    )
    who = parser.add_argument_group("who made a bundle (see 'ulsam-deploy sign')")
    who.add_argument("--key", type=Path, metavar="PUB.pem", help="refuse it unless this key's owner signed it")
    who.add_argument("--identity", metavar="WHO", help="refuse it unless this identity signed it through Sigstore")
    who.add_argument("--issuer", metavar="URL", help="the OpenID provider that knows the identity")
    against = parser.add_argument_group("an artifact that any tool made: .onnx, .xml, .tflite or .plan")
    against.add_argument("--against", type=Path, metavar="MODEL", help="the checkpoint that it should be equal to")
    against.add_argument("--layout", choices=("NCHW", "NHWC"), help="of its inputs (default: worked out)")
    against.add_argument(
        "--precision",
        type=value(parse_precision),
        metavar="NAME",
        help=f"what it is judged as: {', '.join(PRECISIONS)} (default: as its inputs and outputs are)",
    )
    against.add_argument(
        "--calibration",
        type=Path,
        metavar="FILE.npz|DIR",
        help="inputs like the real ones: ranges to judge int8 by, and some to check it on",
    )
    against.add_argument("--probes", type=Path, metavar="FILE.npz|DIR", help="your own inputs, checked besides ours")
    against.add_argument("--reproduce", type=Path, metavar="DIR", help="leave a failure here: inputs, outputs, script")
    against.add_argument("--trust-native", action="store_true", help="let a TensorRT engine, which is code, run")
    against.add_argument("--no-cache", action="store_true", help="do everything again, and keep nothing")
    add_preprocessing(parser)
    add_model_options(parser)
