"""``ulsam-deploy new``: a fresh network with ULSAM, written as a checkpoint that everything else here can read."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ulsam_deploy.device import plugins
from ulsam_deploy.device.bundle.kinds import CHECKPOINT
from ulsam_deploy.device.bundle.output import Output
from ulsam_deploy.device.commands import words
from ulsam_deploy.device.errors import Exit, UsageError
from ulsam_deploy.device.parity import make_probes
from ulsam_deploy.device.printing import say
from ulsam_deploy.device.spelling import unknown
from ulsam_deploy.graph.interfaces import Network

if TYPE_CHECKING:
    from torch import nn

_CONFIG = ("insert", "substitute", "subspaces", "variant", "width", "classes", "in_channels")


def run(arguments: argparse.Namespace) -> Exit:
    """Write the checkpoint, or list what there is."""
    networks: dict[str, Network] = plugins.loaded(plugins.MODELS)
    if arguments.list:
        return _list(networks, arguments)
    network, config = _choose(networks, arguments)
    output = arguments.output or Path(f"{arguments.name}.pt")
    Output(output, CHECKPOINT, arguments.force).check_place()  # what is there may be the same: that is seen at the end
    parameters = _write(network, config, arguments, output)
    if arguments.json:
        words.print_json("new", {"path": str(output), "network": network.name, "parameters": parameters})
    else:
        say(f"{output}: {network.name}, {parameters:,} parameters, {network.blocks(config) or 0} ULSAM blocks")
        words.say_next(["ulsam-export", output])
    return Exit.OK


def _choose(networks: Mapping[str, Network], arguments: argparse.Namespace) -> tuple[Network, dict[str, Any]]:
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


def _write(network: Network, config: Mapping[str, Any], arguments: argparse.Namespace, output: Path) -> int:
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

    As initialised (mean 0, variance 1) a deep network's signal fades to nothing on its way, attention included, and
    there would be nothing to check an artifact with.
    """
    import torch
    from torch import nn

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


def _list(networks: Mapping[str, Network], arguments: argparse.Namespace) -> Exit:
    named = {name: (network, config) for network in networks.values() for name, config in network.named().items()}
    figures = {name: dict(known) for network in networks.values() for name, known in network.figures().items()}
    if arguments.json:
        configs = {name: dict(config) for name, (_, config) in named.items()}
        words.print_json("new", {"networks": list(networks), "named": configs, "figures": figures})
        return Exit.OK
    columns = list(dict.fromkeys(title for known in figures.values() for title in known))
    rows = [
        (name, network.name, _said(config), *(figures.get(name, {}).get(title, "-") for title in columns))
        for name, (network, config) in named.items()
    ]
    say(f"networks: {', '.join(networks)}", "")
    words.print_table(("configuration", "network", "ULSAM", *columns), rows)
    return Exit.OK


def _said(config: Mapping[str, Any]) -> str:
    parts = [f"{how} {','.join(map(str, config[how]))}" for how in ("insert", "substitute") if config.get(how)]
    return "; ".join([*parts, f"g={config.get('subspaces')}"] if parts else ["none (baseline)"])
