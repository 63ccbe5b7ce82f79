"""Writes a network's weights to a checkpoint file that records the network and its configuration."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ulsam_deploy.device.bundle.kinds import CHECKPOINT
from ulsam_deploy.device.bundle.output import Output
from ulsam_deploy.graph.interfaces import Network

if TYPE_CHECKING:
    from torch import nn


def write(
    path: str | Path,
    model: nn.Module,
    network: Network,
    config: Mapping[str, object],
    input_shape: Sequence[int],
    *,
    force: bool = False,
) -> None:
    """Write ``model``'s state_dict and what :func:`identify` needs.

    The file is complete or absent, and the same weights and configuration give the same bytes.

    Args:
        path: The file.
        model: The network.
        network: Its family.
        config: Its configuration.
        input_shape: Channels x height x width.
        force: Replace an existing file of another kind.

    Raises:
        UsageError: The folder cannot be written to, or another file exists there and ``force`` is not set.
        ExportError: The disk fails.
    """
    import torch

    described = {"network": network.name, "config": dict(config), "input": list(input_shape)}
    document = {
        "state_dict": {key: tensor.detach().cpu().contiguous().clone() for key, tensor in model.state_dict().items()},
        "ulsam_deploy": json.loads(json.dumps(described, sort_keys=True)),
    }
    buffer = io.BytesIO()
    torch.save(document, buffer)
    Output(Path(path), CHECKPOINT, force).write(buffer.getvalue())
