"""What the operators share: their attributes, and values that are known before the network runs as tensors or numbers.

An input of an operator is a tensor, or an array of Python objects if it is known (:mod:`ulsam_deploy.load.onnx.known`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ulsam_deploy.device.arrays import Array
from ulsam_deploy.load.onnx.errors import NotReadError

Attributes = Mapping[str, Any]
Result = Tensor | Array | tuple[Tensor, ...] | list[Tensor]
Meaning = Callable[..., Result]


def tensor(value: Tensor | Array, dtype: torch.dtype | None = None) -> Tensor:
    """``value`` as a tensor, of ``dtype`` if it is known."""
    if isinstance(value, Tensor):
        return value
    if not any(isinstance(one, float) for one in value.reshape(-1)[:1]):
        return torch.tensor(value.tolist(), dtype=dtype)
    wide = np.array(value.tolist(), dtype=np.float64)
    narrow = bool(np.array_equal(wide, wide.astype(np.float32), equal_nan=True))
    # In double precision where it matters: a number such as 0.1 then keeps all its digits in the float64 proof.
    return torch.tensor(wide.tolist(), dtype=torch.float32 if narrow else torch.float64).to(dtype or torch.float32)


def number(value: Array | Tensor | None, default: float | None = None) -> float | None:
    """A known single number, or ``default`` if it is absent."""
    if isinstance(value, Tensor):
        raise NotReadError("a bound that is computed from the network's input")
    return default if value is None else float(value.item())


def known(value: Tensor | Array | None, what: str) -> Array:
    """``value``, which must be known; ``what`` names it in the error."""
    if value is None or isinstance(value, Tensor):
        raise NotReadError(f"an operator whose {what} is computed from the network's input")
    return value


def text(a: Attributes, name: str, default: str) -> str:
    """A text attribute."""
    found = a.get(name, default.encode())
    return found.decode() if isinstance(found, bytes) else str(found)


def as_operand(value: Tensor | Array, other: Tensor | Array) -> Any:
    """A single number as a number, so that ``x * (1 + a)`` reads as it was written; a larger array as a tensor."""
    if isinstance(value, Tensor):
        return value
    if value.size == 1 and isinstance(other, Tensor) and value.ndim <= other.ndim:
        return value.item()
    return tensor(value, other.dtype if isinstance(other, Tensor) else None)
