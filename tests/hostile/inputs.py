"""What a hostile input is, and the whole corpus by kind."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from ulsam_deploy.device.errors import Exit

#: Refused, or called broken: what every hostile input has to end with.
REFUSED = frozenset({int(Exit.REFUSED), int(Exit.EXPORT_FAILED)})


@dataclass(frozen=True)
class Input:
    """One hostile input: ``make`` writes it into an empty folder and returns the words of the command that meets it.

    ``codes``: how the command may end. Besides the folder, ``make`` may use ``../outside``, which nothing may touch.
    """

    kind: str
    name: str
    make: Callable[[Path], list[str]]
    codes: frozenset[int] = REFUSED


def corpus(stock: Path) -> Iterator[Input]:
    """Every input; ``stock`` is a folder for the sound files that they are made from."""
    from . import bundles, checkpoints, engines, onnx_files

    yield from checkpoints.inputs()
    yield from onnx_files.inputs(stock)
    yield from engines.inputs(stock)
    yield from bundles.inputs(stock)
