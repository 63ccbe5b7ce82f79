"""Shapes as text, both typed and printed: ``3x224x224``, with ``N`` for an axis of any size.

Standard library only; device-safe.
"""

from __future__ import annotations

from collections.abc import Iterable

from ulsam_deploy.device.errors import UsageError

__all__ = ["parse_shape", "shape_text"]


def shape_text(shape: Iterable[int | None]) -> str:
    """``(None, 3, 224, 224)`` as ``Nx3x224x224``; no axes are a single number."""
    return "x".join("N" if size is None else str(size) for size in shape) or "a single number"


def parse_shape(text: str) -> tuple[int, ...]:
    """``3x224x224`` as ``(3, 224, 224)``; raises :class:`UsageError`."""
    parts = text.lower().split("x")
    if not all(part.isdecimal() and int(part) > 0 for part in parts):
        raise UsageError(
            f"'{text}' is not an input shape", expected="positive sizes without the batch, such as 3x224x224"
        )
    return tuple(map(int, parts))
