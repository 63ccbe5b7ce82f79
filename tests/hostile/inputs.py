"""What a hostile input is, and the whole corpus by kind."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ulsam_deploy.device.errors import Exit

#: Refused, or called broken: what every hostile input has to end with.
REFUSED = frozenset({int(Exit.REFUSED), int(Exit.EXPORT_FAILED)})


@dataclass(frozen=True)
class Input:
    """One hostile input: ``make`` writes it into an empty folder and returns the words of the command that meets it.

    ``codes``: how the command may end. Besides the folder, ``make`` may use ``../outside``, which nothing may touch.
    ``seconds`` is the time it may take, ``memory`` its address space in bytes, ``environment`` its additional
    variables; ``full`` names a file in place of stdout (1) or stderr (2). With ``writes``, the command may leave files
    in ``../out``, whose words are judged as well.
    """

    kind: str
    name: str
    make: Callable[[Path], list[str]]
    codes: frozenset[int] = REFUSED
    seconds: float = 120.0
    memory: int | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    full: Mapping[int, str] = field(default_factory=dict)
    writes: bool = False


def corpus(stock: Path) -> Iterator[Input]:
    """Every input; ``stock`` is a folder for the sound files that they are made from."""
    from . import bundles, checkpoints, data_files, engines, graphs, loops, onnx_files, outputs, trust, words

    yield from checkpoints.inputs()
    yield from onnx_files.inputs(stock)
    yield from engines.inputs(stock)
    yield from bundles.inputs(stock)
    yield from data_files.inputs(stock)
    yield from trust.inputs(stock)
    yield from words.inputs(stock)
    yield from outputs.inputs(stock)
    yield from graphs.inputs()
    yield from loops.inputs(stock)
