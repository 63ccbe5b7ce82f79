"""The options for reading a model, shared by every command that takes a MODEL. Standard library only."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from pathlib import Path


@dataclass(frozen=True)
class LoadOptions:
    """One model and how to read it.

    Attributes:
        model: The file.
        arch: The name of a registered network, or of one of its configurations.
        factory: The user's own code (``pkg.module:function``).
        variant: The variant of the attention module.
        inputs: Shapes without the batch, e.g. ``((3, 224, 224),)``; empty: those of the checkpoint or network.
        batch: The batch size; ``None`` means dynamic.
        weights: The key of a checkpoint that holds the weights, where it holds several: ``"ema"``.
        trust_pickle: Allow a checkpoint's pickle to run any code.
        allow_globals: The globals (``module.name``) that a checkpoint's pickle may use.
    """

    model: Path
    _: KW_ONLY
    arch: str | None = None
    factory: str | None = None
    variant: str | None = None
    inputs: tuple[tuple[int, ...], ...] = ()
    batch: int | None = 1
    weights: str | None = None
    trust_pickle: bool = False
    allow_globals: tuple[str, ...] = ()
