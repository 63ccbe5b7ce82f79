"""Options that several of the host's commands share: how a MODEL is read, and the boards to run a command on."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TypedDict

from ulsam_deploy.device.commands.arguments import positive, value
from ulsam_deploy.device.commands.reading import Group, Parser
from ulsam_deploy.device.findings import ReplayDepth
from ulsam_deploy.device.shapes import parse_shape


def add_model_options(parser: Parser) -> None:
    """Declare how to read a checkpoint: shared by every command that takes a MODEL."""
    network, words = parser.one_of(), parser.words
    network.add("--arch", metavar="NAME", help="the network (default: recognized from the checkpoint's keys)")
    network.add("--model", dest="factory", metavar="PKG.MODULE:FACTORY", help="the code of your own network")
    words.add("--ulsam-variant", dest="variant", metavar="NAME", help="the published form of the ULSAM module")
    words.add(
        "--input",
        action="append",
        type=value(parse_shape),
        default=[],
        metavar="CxHxW",
        help="input shape without the batch; once for each input (default: what the checkpoint states)",
    )
    words.add("--weights", metavar="KEY", help="the key of the weights, if the checkpoint has several (such as ema)")
    words.add("--trust-pickle", action="store_true", help="let the checkpoint run code while it is read")
    words.add("--allow-global", action="append", default=[], metavar="NAME", help="let its pickle use this global")


def add_replay(words: Group) -> None:
    """Declare on how many batches every module is checked by itself."""
    words.add(
        "--replay",
        choices=tuple(depth.value for depth in ReplayDepth),
        default=ReplayDepth.FAST.value,
        help="check every module by itself in the artifact: on no batch, the worst one, or all (default fast)",
    )


class ModelOptions(TypedDict):
    """Fields of :class:`~ulsam_deploy.load.options.LoadOptions`."""

    arch: str | None
    factory: str | None
    variant: str | None
    inputs: tuple[tuple[int, ...], ...]
    weights: str | None
    trust_pickle: bool
    allow_globals: tuple[str, ...]


def model_options(arguments: argparse.Namespace) -> ModelOptions:
    """The options of :func:`add_model_options` as fields of :class:`~ulsam_deploy.load.options.LoadOptions`."""
    return {
        "arch": arguments.arch,
        "factory": arguments.factory,
        "variant": arguments.variant,
        "inputs": tuple(arguments.input),
        "weights": arguments.weights,
        "trust_pickle": arguments.trust_pickle,
        "allow_globals": tuple(arguments.allow_global),
    }


def add_host_options(parser: Parser) -> None:
    """Declare the boards to run the command on instead of here; read by :mod:`ulsam_deploy.cli.hosts`."""
    group = parser.group("on other machines, through your own ssh (nothing is installed or left there)")
    group.add(
        "--host", action="append", default=[], metavar="USER@NAME", help="run it there; repeat for several in parallel"
    )
    group.add("--host-python", default="python3", metavar="WORD", help="the Python command there (default python3)")
    group.add(
        "--host-time-limit",
        type=value(positive),
        default=3600.0,
        metavar="SECONDS",
        help="timeout of the command there (default 3600)",
    )
    group.add("--ssh-config", type=Path, metavar="FILE", help="in place of your own ~/.ssh/config")
