"""The words of ``ulsam-deploy new``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ulsam_deploy.device.commands.arguments import add_force, command, value
from ulsam_deploy.device.errors import UsageError
from ulsam_deploy.device.shapes import parse_shape


def add(commands: Any) -> None:
    """Add the command and its words."""
    parser = command(commands, "new", "write a freshly initialised network with ULSAM as a checkpoint")
    parser.add_argument("name", nargs="?", metavar="NAME", help="a network or a named configuration; see --list")
    parser.add_argument("--list", action="store_true", help="print networks and the paper's configurations")
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help="where to write (default: NAME.pt)")
    add_force(parser)
    parser.add_argument("--insert", type=value(_positions), metavar="I,J", help="ULSAM after these layers")
    parser.add_argument("--substitute", type=value(_positions), metavar="I,J", help="ULSAM in place of these layers")
    parser.add_argument("--subspaces", type=int, metavar="G", help="subspaces of every ULSAM (default 4)")
    parser.add_argument("--ulsam-variant", dest="variant", metavar="NAME", help="the form of the module")
    parser.add_argument("--width", type=float, metavar="A", help="width multiplier (default 1.0)")
    parser.add_argument("--classes", type=int, metavar="K", help="number of classes (default 1000)")
    parser.add_argument("--in-channels", type=int, metavar="C", help="channels of the image (default 3)")
    parser.add_argument(
        "--input", type=value(parse_shape), metavar="CxHxW", help="input shape to remember (default 224x224)"
    )
    parser.add_argument("--seed", type=value(_seed), default=0, help="seed of the initial weights (default 0)")


def _seed(text: str) -> int:
    if not text.isdecimal() or int(text) >= 1 << 63:
        raise UsageError(f"'{text}' is no seed", expected=f"a whole number from 0 to {(1 << 63) - 1}")
    return int(text)


def _positions(text: str) -> list[int]:
    parts = text.split(",")
    if not all(part.strip().isdecimal() for part in parts):
        raise UsageError(f"'{text}' are not positions", expected="layer numbers such as 15,16")
    return [int(part) for part in parts]
