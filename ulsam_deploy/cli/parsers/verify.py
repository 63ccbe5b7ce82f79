"""The words of ``ulsam-deploy verify`` on the host."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ulsam_deploy.cli.arguments import add_host_options, add_model_options
from ulsam_deploy.device.commands.arguments import add_preprocessing, command, value
from ulsam_deploy.device.commands.parsers.verify import add_words
from ulsam_deploy.device.precisions import PRECISIONS, parse_precision


def add(commands: Any) -> None:
    """Add the command and its words."""
    parser = command(
        commands, "verify", "check every artifact of a bundle that can run here, or any artifact against a checkpoint"
    )
    parser.add_argument("path", type=Path, metavar="BUNDLE|ARTIFACT", help="a bundle; or an artifact, with --against")
    who = add_words(parser)
    who.add_argument("--identity", metavar="WHO", help="refuse it unless this identity signed it through Sigstore")
    who.add_argument("--issuer", metavar="URL", help="the OpenID provider that knows the identity")
    parser.add_argument("--device", metavar="NAME", help="on this board, in emulation: rpi3, rpi4, rpi5, rpi4-32bit")
    add_host_options(parser)
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
