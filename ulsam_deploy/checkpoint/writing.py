"""A network's weights to a checkpoint file that says which network it is."""

from __future__ import annotations

import contextlib
import io
import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ulsam_deploy.contracts import Network
from ulsam_deploy.errors import UsageError

if TYPE_CHECKING:
    from torch import nn


def write(
    path: str | Path, model: nn.Module, network: Network, config: Mapping[str, Any], input_shape: Sequence[int]
) -> None:
    """Write ``model``'s state_dict and what :func:`identify` needs; ``input_shape`` is channels x height x width.

    The file is whole or absent, and the same weights and configuration give the same bytes. Raises
    :class:`UsageError` when the folder cannot be written to.
    """
    import torch

    described = {"network": network.name, "config": dict(config), "input": list(input_shape)}
    document = {
        "state_dict": {key: tensor.detach().cpu().contiguous().clone() for key, tensor in model.state_dict().items()},
        "ulsam_deploy": json.loads(json.dumps(described, sort_keys=True)),
    }
    buffer = io.BytesIO()
    torch.save(document, buffer)
    _replace(Path(path), buffer.getvalue())


def _replace(path: Path, data: bytes) -> None:
    temporary = None
    try:
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as stream:
            temporary = Path(stream.name)
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.chmod(0o644)
        temporary.replace(path)
    except OSError as error:
        raise UsageError(
            f"'{path}' cannot be written: {error.strerror}",
            expected="a file name in an existing folder with room in it",
        ) from error
    finally:
        if temporary is not None:
            with contextlib.suppress(FileNotFoundError):
                temporary.unlink()
