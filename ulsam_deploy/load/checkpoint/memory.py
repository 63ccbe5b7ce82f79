"""Prepares a network that is in memory as if it came from a file: a separate copy, unwrapped and in float32."""

from __future__ import annotations

import copy
import hashlib
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ulsam_deploy.device.errors import UsageError
from ulsam_deploy.load.checkpoint.reading import check_finite, check_tensors, normalise

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True)
class InMemory:
    """A copy of the user's module in ``eval`` mode, on the CPU, in float32; the user's own module is not changed.

    ``sha256`` covers names, shapes and values of its ``state_dict``, but not the module's code. ``network`` is its
    class; ``notes`` are sentences about what was changed.
    """

    model: nn.Module
    sha256: str
    network: str
    notes: tuple[str, ...]

    @property
    def name(self) -> str:
        """The name of its class, used in place of a file name."""
        return self.network.rpartition(".")[2]


def from_module(module: nn.Module) -> InMemory:
    """Copy ``module``, without a wrapper by ``torch.compile`` or ``DataParallel``.

    Raises:
        UsageError: It cannot be copied.
        ExportError: Its weights are not finite, or not ordinary dense tensors.
    """
    import torch

    module = unwrapped(module)
    kind = type(module)
    try:
        own = copy.deepcopy(module).cpu().eval()
    except Exception as error:  # a user's module may contain anything, and copying it may raise anything
        said = (str(error).splitlines() or [type(error).__name__])[0][:300]
        raise UsageError(
            f"the network {kind.__name__} can't be copied: {said}",
            expected="a torch.nn.Module that copy.deepcopy copies",
            todo="save its state_dict() and export that file, with the network's code as factory='PKG.MODULE:FACTORY'",
        ) from error
    weights = {name: value for name, value in own.state_dict().items() if isinstance(value, torch.Tensor)}
    check_tensors(weights, kind.__name__, sys.maxsize)
    tensors, notes = normalise(weights)
    check_finite(tensors, kind.__name__)
    return InMemory(own.float(), _digest(tensors), f"{kind.__module__}.{kind.__qualname__}", tuple(notes))


def unwrapped(module: nn.Module) -> nn.Module:
    """``module`` without a wrapper by ``torch.compile`` or ``DataParallel``."""
    import torch

    while isinstance(inner := getattr(module, "_orig_mod", None), torch.nn.Module) or (
        isinstance(module, torch.nn.DataParallel | torch.nn.parallel.DistributedDataParallel)
        and (inner := module.module)
    ):
        module = inner
    return module


def _digest(tensors: Mapping[str, Tensor]) -> str:
    sha = hashlib.sha256()
    for name in sorted(tensors):
        array = tensors[name].numpy()
        sha.update(f"{name}\0{array.dtype}\0{array.shape}\0".encode())
        sha.update(array.tobytes())
    return sha.hexdigest()
