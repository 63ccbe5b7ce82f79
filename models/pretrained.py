"""Loads the weights of a plain backbone, in any known key layout, into a network with ULSAM, for fine-tuning."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from ulsam_deploy.device.errors import UsageError
from ulsam_deploy.device.shapes import shape_text

from .backbone import AttentionNet, Family
from .mobilenet_v1 import NETWORK as MOBILENET_V1
from .mobilenet_v2 import NETWORK as MOBILENET_V2

NETWORKS: tuple[Family, ...] = (MOBILENET_V1, MOBILENET_V2)


@dataclass(frozen=True)
class Adapted:
    """Weights under our keys, the network that they belong to, and sentences about what was changed."""

    state_dict: dict[str, Tensor]
    network: str
    config: Mapping[str, Any]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class LoadReport:
    """Keys of the model that were ``loaded``, those that stay ``new``ly initialised, and given keys left ``unused``."""

    loaded: tuple[str, ...]
    new: tuple[str, ...]
    unused: tuple[str, ...]

    def __str__(self) -> str:
        return "\n".join(
            f"{len(keys)} tensors {what}{': ' if keys else ''}{', '.join(keys[:4])}{', ...' if len(keys) > 4 else ''}"
            for what, keys in (("loaded", self.loaded), ("newly initialised", self.new), ("unused", self.unused))
        )


def adapt(state_dict: Mapping[str, Tensor]) -> Adapted:
    """Identify the network of these weights and rename them to our keys.

    Raises :class:`UsageError` if they belong to none of :data:`NETWORKS`.
    """
    for network in NETWORKS:
        names = network.rename(state_dict)
        ours = {names.get(key, key): value for key, value in state_dict.items()}
        config = network.recognize({key: tuple(value.shape) for key, value in ours.items()})
        if config is not None:
            moved = sum(old != new for old, new in names.items())
            renaming = [f"{moved} keys renamed from another layout of {network.name}"] if moved else []
            return Adapted(ours, network.name, config, (*renaming, *network.warnings(ours)))
    raise UsageError(
        "these weights belong to no network that is known here",
        expected=f"a state_dict of {' or '.join(network.name for network in NETWORKS)}, at any width",
    )


def load_backbone(model: AttentionNet, state_dict: Mapping[str, Tensor]) -> LoadReport:
    """Load the matching weights of a plain backbone's ``state_dict`` into ``model``, in place; ULSAM is not changed.

    A classifier for another number of classes is skipped and reported. Any other difference in shape, or weights that
    share no key with ``model``, raise :class:`UsageError` and leave ``model`` unchanged.
    """
    wanted = model.state_dict()
    names = next(filter(None, (network.rename(state_dict) for network in NETWORKS)), {})
    given = {names.get(key, key): value for key, value in state_dict.items()}
    shared = [key for key in wanted if key in given]
    differ = [key for key in shared if wanted[key].shape != given[key].shape]
    for key in differ:
        if not key.startswith("classifier."):
            raise UsageError(
                f"'{key}' has shape {shape_text(given[key].shape)}",
                expected=shape_text(wanted[key].shape),
                todo="build the network with the width and input channels that the weights were trained with",
            )
    loaded = [key for key in shared if key not in differ]
    if not any(key.startswith("features.") for key in loaded):
        raise UsageError(
            "none of these weights fits the backbone",
            expected=f"keys such as '{next(iter(wanted))}'",
            todo="pass the state_dict itself, without a wrapper or a 'module.' prefix",
        )
    model.load_state_dict({key: given[key] for key in loaded}, strict=False)
    left = {old: names.get(old, old) for old in state_dict}
    return LoadReport(
        loaded=tuple(loaded),
        new=tuple(key for key in wanted if key not in loaded),
        unused=tuple(old for old, ours in left.items() if ours not in loaded),
    )
