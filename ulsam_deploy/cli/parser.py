"""The command line: every word that a user can type. Importing this imports no engine and no torch."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from ulsam_deploy import options
from ulsam_deploy._version import __version__
from ulsam_deploy.contracts import Tier
from ulsam_deploy.errors import UsageError

EXIT_CODES = """exit codes: 0 every check held, 1 a check failed, 2 wrong usage, 3 export failed,
4 backend, device or evidence tier not available here, 5 inconclusive, 6 refused (integrity or trust)"""

T = TypeVar("T")


def build_parser() -> argparse.ArgumentParser:
    """The parser of ``ulsam-deploy``; the chosen command's module name is in ``command``."""
    parser = argparse.ArgumentParser(
        prog="ulsam-deploy",
        description="Train in PyTorch, ship to the edge, with proof.",
        epilog=EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"ulsam-deploy {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for add in (_export, _verify, _inspect, _doctor, _new, _pack, _build):
        add(commands)
    return parser


def _command(commands: Any, name: str, help_: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(
        name,
        help=help_,
        description=help_[:1].upper() + help_[1:] + ".",
        epilog=EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--json", action="store_true", help="print one JSON document on stdout and nothing else")
    return parser


def _words(parse: Callable[[str], T]) -> Callable[[str], T]:
    """Let ``parse`` complain in argparse's manner."""

    def convert(text: str) -> T:
        try:
            return parse(text)
        except UsageError as error:
            raise argparse.ArgumentTypeError(f"{error.found}; expected {error.expected}") from error

    return convert


def _export(commands: Any) -> None:
    parser = _command(commands, "export", "take a checkpoint to verified artifacts in one bundle")
    parser.add_argument("model", type=Path, metavar="MODEL", help="a checkpoint: torch.save or safetensors")
    parser.add_argument(
        "--target",
        action="append",
        metavar="NAME",
        help="onnx, openvino, tflite, trt or all; may be repeated or comma-separated (default: all that is installed)",
    )
    parser.add_argument("-o", "--output", type=Path, metavar="DIR", help="the bundle (default: MODEL's name + .bundle)")
    _model_options(parser)
    parser.add_argument(
        "--batch", type=_words(options.parse_batch), default=1, metavar="N", help="batch size, or 'dynamic' (default 1)"
    )
    parser.add_argument("--precision", default="fp32", metavar="NAME", help="precision of the artifacts (default fp32)")
    parser.add_argument("--probes", type=Path, metavar="FILE.npz|DIR", help="your own inputs, checked besides ours")
    parser.add_argument("--device", default="", metavar="NAME", help="a device profile, such as jetson-orin-jp6")
    parser.add_argument("--dla", action="store_true", help="for the device's deep learning accelerator (trt only)")
    parser.add_argument(
        "--require",
        type=_words(Tier.from_label),
        default=Tier.EXPORTED,
        metavar="TIER",
        help="least evidence that counts as success: " + ", ".join(tier.label for tier in Tier),
    )
    parser.add_argument("--no-cache", action="store_true", help="do everything again, and keep nothing")


def _model_options(parser: argparse.ArgumentParser) -> None:
    """How to read a checkpoint: shared by every command that takes a MODEL."""
    network = parser.add_mutually_exclusive_group()
    network.add_argument("--arch", metavar="NAME", help="the network (default: recognized from the checkpoint's keys)")
    network.add_argument("--model", dest="factory", metavar="PKG.MODULE:FACTORY", help="your own network's code")
    parser.add_argument("--ulsam-variant", dest="variant", metavar="NAME", help="the form of the module in the wild")
    parser.add_argument(
        "--input",
        action="append",
        type=_words(options.parse_shape),
        default=[],
        metavar="CxHxW",
        help="input shape without the batch; once for each input (default: what the checkpoint says)",
    )
    parser.add_argument("--trust-pickle", action="store_true", help="let the checkpoint run code while it is read")
    parser.add_argument(
        "--allow-global", action="append", default=[], metavar="NAME", help="let its pickle use this one name"
    )


def model_options(arguments: argparse.Namespace) -> dict[str, Any]:
    """What the words of :func:`_model_options` say, as fields of :class:`~ulsam_deploy.options.ExportOptions`."""
    return {
        "arch": arguments.arch,
        "factory": arguments.factory,
        "variant": arguments.variant,
        "inputs": tuple(arguments.input),
        "trust_pickle": arguments.trust_pickle,
        "allow_globals": tuple(arguments.allow_global),
    }


def _verify(commands: Any) -> None:
    parser = _command(
        commands, "verify", "check every artifact of a bundle that can run here, or any artifact against a checkpoint"
    )
    parser.add_argument("path", type=Path, metavar="BUNDLE|ARTIFACT", help="a bundle; or an artifact, with --against")
    parser.add_argument("--target", action="append", metavar="NAME", help="check this target only; may be repeated")
    parser.add_argument(
        "--require",
        type=_words(Tier.from_label),
        default=Tier.EXPORTED,
        metavar="TIER",
        help="least evidence that every artifact must reach here",
    )
    against = parser.add_argument_group("an artifact that any tool made: .onnx, .xml, .tflite or .plan")
    against.add_argument("--against", type=Path, metavar="MODEL", help="the checkpoint that it should be equal to")
    against.add_argument("--layout", choices=("NCHW", "NHWC"), help="of its inputs (default: worked out)")
    against.add_argument(
        "--precision", choices=("fp32", "fp16"), help="what it is judged as (default: as its inputs and outputs are)"
    )
    against.add_argument("--probes", type=Path, metavar="FILE.npz|DIR", help="your own inputs, checked besides ours")
    against.add_argument("--reproduce", type=Path, metavar="DIR", help="leave a failure here: inputs, outputs, script")
    against.add_argument(
        "--time-limit", type=_words(_positive), default=300.0, metavar="SECONDS", help="for each run (default 300)"
    )
    against.add_argument(
        "--memory-limit", type=_words(_positive), default=8.0, metavar="GIB", help="of address space (default 8)"
    )
    against.add_argument("--trust-native", action="store_true", help="let a TensorRT engine, which is code, run")
    against.add_argument("--no-cache", action="store_true", help="do everything again, and keep nothing")
    _model_options(parser)


def _positive(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < math.inf:
        raise UsageError(f"'{text}' is no limit", expected="a positive number")
    return number


def _inspect(commands: Any) -> None:
    parser = _command(commands, "inspect", "say what is inside a checkpoint or a bundle")
    parser.add_argument("path", type=Path, metavar="MODEL|BUNDLE", help="a checkpoint, a bundle folder or a .zip")
    _model_options(parser)


def _doctor(commands: Any) -> None:
    _command(commands, "doctor", "say what is installed, what is possible here, and what to install for the rest")


def _new(commands: Any) -> None:
    parser = _command(commands, "new", "write a freshly initialised network with ULSAM as a checkpoint")
    parser.add_argument("name", nargs="?", metavar="NAME", help="a network or a named configuration; see --list")
    parser.add_argument("--list", action="store_true", help="print networks and the paper's configurations")
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help="where to write (default: NAME.pt)")
    parser.add_argument("--insert", type=_words(_positions), metavar="I,J", help="ULSAM after these layers")
    parser.add_argument("--substitute", type=_words(_positions), metavar="I,J", help="ULSAM in place of these layers")
    parser.add_argument("--subspaces", type=int, metavar="G", help="subspaces of every ULSAM (default 4)")
    parser.add_argument("--ulsam-variant", dest="variant", metavar="NAME", help="the form of the module")
    parser.add_argument("--width", type=float, metavar="A", help="width multiplier (default 1.0)")
    parser.add_argument("--classes", type=int, metavar="K", help="number of classes (default 1000)")
    parser.add_argument("--in-channels", type=int, metavar="C", help="channels of the image (default 3)")
    parser.add_argument(
        "--input", type=_words(options.parse_shape), metavar="CxHxW", help="input shape to remember (default 224x224)"
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of the initial weights (default 0)")


def _positions(text: str) -> list[int]:
    parts = text.split(",")
    if not all(part.strip().isdecimal() for part in parts):
        raise UsageError(f"'{text}' are not positions", expected="layer numbers such as 15,16")
    return [int(part) for part in parts]


def _pack(commands: Any) -> None:
    parser = _command(commands, "pack", "pack a bundle folder into one .zip")
    parser.add_argument("bundle", type=Path, metavar="BUNDLE", help="a bundle folder")
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help="default: the bundle's name + .zip")


def _build(commands: Any) -> None:
    parser = _command(commands, "build", "build the engine of a TensorRT kit on this machine")
    parser.add_argument("kit", type=Path, metavar="KIT", help="the trt folder of a bundle: model.onnx and build.json")
    parser.add_argument(
        "-o", "--output", type=Path, metavar="DIR", help="where to (default: KIT's name + .engine, outside a bundle)"
    )
