"""``ulsam-deploy verify`` on the host: a bundle here, on boards, or emulated; or any artifact against a checkpoint."""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from ulsam_deploy.cli.arguments import add_host_options, add_model_options, add_replay, model_options
from ulsam_deploy.device.commands.answer import Answer
from ulsam_deploy.device.commands.arguments import add_preprocessing, targets_of, value
from ulsam_deploy.device.commands.reading import Parser
from ulsam_deploy.device.commands.verify import add_bundle_words
from ulsam_deploy.device.precisions import PRECISIONS, parse_precision

if TYPE_CHECKING:
    from ulsam_deploy.device.accuracy import Labelled
    from ulsam_deploy.device.bundle import Bundle
    from ulsam_deploy.device.commands import labelled
    from ulsam_deploy.device.verify import Checked

HELP = "check every artifact of a bundle that can run here, or any artifact against a checkpoint"


def add_words(parser: Parser) -> None:
    """Declare the options of this command."""
    words = parser.words
    words.add("path", type=Path, metavar="BUNDLE|ARTIFACT", help="a bundle; or an artifact, with --against")
    who = add_bundle_words(parser)
    who.add("--identity", metavar="WHO", help="refuse it unless this identity signed it through Sigstore")
    who.add("--issuer", metavar="URL", help="the OpenID provider of the identity")
    words.add("--device", metavar="NAME", help="on this board, in emulation: rpi3, rpi4, rpi5, rpi4-32bit")
    add_host_options(parser)
    against = parser.group("an artifact that any tool made: .onnx, .xml, .tflite, .param or .plan")
    against.add("--against", type=Path, metavar="MODEL", help="the checkpoint that it was made from")
    against.add("--layout", choices=("NCHW", "NHWC"), help="layout of its inputs (default: inferred)")
    against.add(
        "--precision",
        type=value(parse_precision),
        metavar="NAME",
        help=f"precision to check it in: {', '.join(PRECISIONS)} (default: that of its inputs and outputs)",
    )
    against.add(
        "--calibration",
        type=Path,
        metavar="FILE.npz|DIR",
        help="inputs like the real ones, for the control runs of int8 and as probes",
    )
    against.add("--probes", type=Path, metavar="FILE.npz|DIR", help="your own inputs, checked in addition")
    against.add(
        "--limit",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="what it may lose on real inputs: agreement (0.98) and deviation (0.25)",
    )
    add_replay(against)
    against.add("--reproduce", type=Path, metavar="DIR", help="write a failure here: inputs, outputs, script")
    against.add("--trust-native", action="store_true", help="let a TensorRT engine, which is code, run")
    against.add("--no-cache", action="store_true", help="neither read nor write the cache")
    add_preprocessing(words)
    add_model_options(parser)


def run(arguments: argparse.Namespace) -> Answer:
    """Run one of the four forms, which share the table and the meaning of the exit code."""
    if arguments.host:
        from ulsam_deploy.cli import verify_hosts

        return verify_hosts.run(arguments)
    if arguments.against and not arguments.data:
        from ulsam_deploy.cli import verify_against

        return verify_against.run(arguments)
    from ulsam_deploy.device.commands.labelled import first_float
    from ulsam_deploy.device.commands.verify_bundle import Means, here, verify

    check = _emulated if arguments.device else here
    partner: labelled.Partner = partial(_pytorch, arguments) if arguments.against else first_float
    return verify(arguments, Means(check, arguments.device or "", _signer, partner))


def _emulated(arguments: argparse.Namespace, bundle: Bundle) -> list[Checked]:
    """Verify every artifact on the requested emulated board."""
    from ulsam_deploy.boards import emulate
    from ulsam_deploy.device.progress import Progress

    progress = Progress(beat=not arguments.json)
    return emulate.verify_bundle(bundle, arguments.device, targets_of(arguments), progress)


def _signer(arguments: argparse.Namespace, bundle: Bundle) -> str | None:
    """Who signed the bundle, by key or by identity; ``None`` if that is not to be checked."""
    from ulsam_deploy.device.commands.verify_bundle import key_owner

    if not arguments.identity:
        return key_owner(arguments, bundle)
    from ulsam_deploy.exporting import signing

    signing.check_identity(bundle, arguments.identity, arguments.issuer)
    return str(arguments.identity)


def _pytorch(
    arguments: argparse.Namespace,
    bundle: Bundle,
    _seen: labelled.Seen,
    data: Labelled,
) -> labelled.Named:
    """The PyTorch network of ``--against``, as partner on labelled data."""
    from ulsam_deploy.exporting.options import ExportOptions
    from ulsam_deploy.load import eager

    options = ExportOptions(arguments.against, **model_options(arguments))
    return eager.PARTNER, eager.of_card(options, bundle.manifest.model, data)
