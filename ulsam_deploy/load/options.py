"""What a user can say of how a model is read: shared by every command that takes a MODEL. Standard library only."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from pathlib import Path


@dataclass(frozen=True)
class LoadOptions:
    """One model and how to read it. ``batch`` ``None`` means dynamic.

    ``inputs`` are shapes without the batch, e.g. ``((3, 224, 224),)``; empty: what the checkpoint or network says.
    ``arch`` names a registered network, ``factory`` is the user's own code (``pkg.module:function``), ``variant`` the
    form of the attention module. ``trust_pickle`` and ``allow_globals`` say what a checkpoint's pickle may do.
    """

    model: Path
    _: KW_ONLY
    arch: str | None = None
    factory: str | None = None
    variant: str | None = None
    inputs: tuple[tuple[int, ...], ...] = ()
    batch: int | None = 1
    trust_pickle: bool = False
    allow_globals: tuple[str, ...] = ()
