"""``ulsam-deploy new``: a fresh network with ULSAM, written as a checkpoint that everything else here can read."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ulsam_deploy.device.commands.answer import Answer, Part, Table, path_text, schema_field
from ulsam_deploy.device.commands.arguments import add_force, value
from ulsam_deploy.device.commands.reading import Parser
from ulsam_deploy.device.errors import UsageError
from ulsam_deploy.device.findings import Scalar
from ulsam_deploy.device.shapes import parse_shape

if TYPE_CHECKING:
    from torch import nn

    from ulsam_deploy.graph.interfaces import Network

HELP = "write a freshly initialised network with ULSAM as a checkpoint"
_CONFIG = ("insert", "substitute", "subspaces", "variant", "width", "classes", "in_channels")
#: One value of a network's configuration.
Setting = Scalar | tuple[Scalar, ...] | None


@dataclass(frozen=True)
class NewDocument:
    """``new NAME``: the checkpoint that was written."""

    path: str
    network: str
    parameters: int
    schema: str = schema_field("new", 1)


@dataclass(frozen=True)
class NewListDocument:
    """``new --list``: networks, named configurations, and their properties, by column."""

    networks: tuple[str, ...]
    named: Mapping[str, Mapping[str, Setting]]
    figures: Mapping[str, Mapping[str, str]]
    schema: str = schema_field("new", 1)


def add_words(parser: Parser) -> None:
    """Declare the options of this command."""
    words = parser.words
    words.add("name", nargs="?", metavar="NAME", help="a network or a named configuration; see --list")
    words.add("--list", action="store_true", help="print networks and the paper's configurations")
    words.add("-o", "--output", type=Path, metavar="FILE", help="where to write (default: NAME.pt)")
    add_force(words)
    words.add("--insert", type=value(_positions), metavar="I,J", help="ULSAM after these layers")
    words.add("--substitute", type=value(_positions), metavar="I,J", help="ULSAM in place of these layers")
    words.add("--subspaces", type=int, metavar="G", help="subspaces of every ULSAM (default 4)")
    words.add("--ulsam-variant", dest="variant", metavar="NAME", help="the published form of the ULSAM module")
    words.add("--width", type=float, metavar="A", help="width multiplier (default 1.0)")
    words.add("--classes", type=int, metavar="K", help="number of classes (default 1000)")
    words.add("--in-channels", type=int, metavar="C", help="channels of the image (default 3)")
    words.add("--input", type=value(parse_shape), metavar="CxHxW", help="input shape to store (default 224x224)")
    words.add("--seed", type=value(_seed), default=0, help="seed of the initial weights (default 0)")


def _seed(text: str) -> int:
    if not text.isdecimal() or int(text) >= 1 << 63:
        raise UsageError(f"'{text}' is not a seed", expected=f"a whole number from 0 to {(1 << 63) - 1}")
    return int(text)


def _positions(text: str) -> list[int]:
    parts = text.split(",")
    if not all(part.strip().isdecimal() for part in parts):
        raise UsageError(f"'{text}' are not positions", expected="layer numbers such as 15,16")
    return [int(part) for part in parts]


def run(arguments: argparse.Namespace) -> Answer:
    """Write the checkpoint, or list networks and configurations."""
    from ulsam_deploy.device import plugins
    from ulsam_deploy.device.bundle.kinds import CHECKPOINT
    from ulsam_deploy.device.bundle.output import Output
    from ulsam_deploy.device.commands.words import next_step

    networks: dict[str, Network] = plugins.loaded(plugins.MODELS)
    if arguments.list:
        return _list(networks)
    network, config = _choose(networks, arguments)
    output = arguments.output or Path(f"{arguments.name}.pt")
    Output(output, CHECKPOINT, arguments.force).check_place()  # whether an equal file is there is only known later
    parameters = _write(network, config, arguments, output)
    made = f"{output}: {network.name}, {parameters:,} parameters, {network.blocks(config) or 0} ULSAM blocks"
    document = NewDocument(path_text(output), network.name, parameters)
    return Answer(document, [made, *next_step(["ulsam-export", output])])


def _choose(networks: Mapping[str, Network], arguments: argparse.Namespace) -> tuple[Network, dict[str, object]]:
    from ulsam_deploy.device.spelling import unknown

    asked = {name: value for name in _CONFIG if (value := getattr(arguments, name)) is not None}
    if arguments.name in networks:
        network = networks[arguments.name]
        if not network.blocks(asked) and (pointless := [name for name in ("subspaces", "variant") if name in asked]):
            raise UsageError(
                f"{pointless[0]} is about ULSAM, and this network has none", expected="--insert or --substitute as well"
            )
        return network, asked
    for network in networks.values():
        if arguments.name in network.named():
            return network, {**network.named()[arguments.name], **asked}
    todo = "see 'ulsam-deploy new --list' for the paper's configurations"
    if not arguments.name:
        raise UsageError("no network was named", expected=", ".join(networks), todo=todo)
    raise unknown(
        f"no network or configuration is called '{arguments.name}'",
        arguments.name,
        [*networks, *(name for network in networks.values() for name in network.named())],
        expected=", ".join(networks),
        todo=todo,
    )


def _write(network: Network, config: Mapping[str, object], arguments: argparse.Namespace, output: Path) -> int:
    import torch

    from ulsam_deploy.load import checkpoint

    shape = arguments.input or network.input_shape(config)
    checkpoint.check_shape(network, config, shape)
    torch.manual_seed(arguments.seed)
    model = network.build(config)
    _calibrate(model, shape)
    checkpoint.write(output, model, network, config, shape, force=arguments.force)
    return sum(parameter.numel() for parameter in model.parameters())


def _calibrate(model: nn.Module, shape: tuple[int, ...]) -> None:
    """Give every batch norm the statistics of probe images.

    With the initial statistics (mean 0, variance 1) the signal of a deep network vanishes, including its attention, and
    an artifact could not be checked.
    """
    import torch
    from torch import nn

    from ulsam_deploy.device.parity import make_probes

    images, _ = make_probes({"image": shape}, count=16)
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    usual = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = None  # the plain mean over all batches
        norm.train()
    with torch.no_grad():
        for start in range(0, 16, 8):
            model(torch.from_numpy(images["image"][start : start + 8]))
    for norm, momentum in zip(norms, usual):
        norm.momentum = momentum
        norm.eval()


def _list(networks: Mapping[str, Network]) -> Answer:
    named = {name: (network, config) for network in networks.values() for name, config in network.named().items()}
    figures = {name: dict(known) for network in networks.values() for name, known in network.figures().items()}
    configs = {name: {key: _setting(one) for key, one in config.items()} for name, (_, config) in named.items()}
    columns = list(dict.fromkeys(title for known in figures.values() for title in known))
    rows = [
        (name, network.name, _said(configs[name]), *(figures.get(name, {}).get(title, "-") for title in columns))
        for name, (network, _) in named.items()
    ]
    text: list[Part] = [
        f"networks: {', '.join(networks)}",
        "",
        Table(("configuration", "network", "ULSAM", *columns), rows),
    ]
    return Answer(NewListDocument(tuple(networks), configs, figures), text)


def _setting(found: object) -> Setting:
    """``found`` in the form of a document."""
    if isinstance(found, (list, tuple)):
        return tuple(found)
    return found if found is None or isinstance(found, (str, int, float, bool)) else str(found)


def _said(config: Mapping[str, Setting]) -> str:
    places = {how: config.get(how) for how in ("insert", "substitute")}
    parts = [f"{how} {','.join(map(str, at))}" for how, at in places.items() if at and isinstance(at, tuple)]
    return "; ".join([*parts, f"g={config.get('subspaces')}"] if parts else ["none (baseline)"])
