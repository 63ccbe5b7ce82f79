"""What is done with a file of unknown origin in the process that opens it, for :mod:`ulsam_deploy.against.guard`.

Standard library, numpy and the engine; device-safe. Where it says ``without``, the file's ablation without these
softmaxes is made and opened instead: only then are the packages that its exporter needs, too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ulsam_deploy.device import plugins
from ulsam_deploy.device.arrays import ArrayMap
from ulsam_deploy.device.errors import UnavailableError
from ulsam_deploy.device.findings import EngineFacts
from ulsam_deploy.device.runtime import Runtime
from ulsam_deploy.device.types import TensorSpec
from ulsam_deploy.device.verify import produce
from ulsam_deploy.graph.interfaces import Exporter

__all__ = ["Fed", "File", "Outputs", "Ports", "Softmaxes", "Values", "open_file", "run", "softmaxes", "values"]


@dataclass(frozen=True)
class File:
    """The file at ``path`` and the name of its engine."""

    engine: str
    path: Path

    def runtime(self) -> type[Runtime]:
        """The engine."""
        found: type[Runtime] = plugins.load(plugins.RUNTIMES, self.engine)
        return found


@dataclass(frozen=True)
class Ports:
    """Inputs and outputs as a file states them, and all files that belong to it."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    files: tuple[Path, ...]


@dataclass(frozen=True)
class Fed:
    """A file with all of ``feed``, (P, ...) by input, ``size`` rows at once where values are asked for.

    ``without``: the softmaxes, by number, that give zero in its ablation; empty: the file itself.
    """

    file: File
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    feed: ArrayMap
    without: tuple[int, ...]
    size: int = 1

    def files(self) -> tuple[Path, ...]:
        """What is opened."""
        engine = self.file.runtime()
        files = engine.files_of(self.file.path)
        return _ablation(engine, files, self.without) if self.without else files


@dataclass(frozen=True)
class Outputs:
    """What came out, (P, ...) by output, and what the engine says of itself."""

    arrays: ArrayMap
    facts: EngineFacts


@dataclass(frozen=True)
class Values:
    """Every value, by the number of its batch and its name: ``0/conv``."""

    arrays: ArrayMap


@dataclass(frozen=True)
class Softmaxes:
    """How many there are."""

    count: int


def open_file(file: File) -> Ports:
    """What a file states about itself."""
    engine = file.runtime()
    files = engine.files_of(file.path)
    with engine(files, (), ()) as runtime:
        return Ports(*runtime.ports(), files)


def run(fed: Fed) -> Outputs:
    """What a file gives."""
    with fed.file.runtime()(fed.files(), fed.inputs, fed.outputs) as runtime:
        return Outputs(produce(runtime, fed.feed), runtime.facts())


def values(fed: Fed) -> Values:
    """What a file holds inside."""
    starts = range(0, len(next(iter(fed.feed.values()))), fed.size)
    with fed.file.runtime()(fed.files(), fed.inputs, fed.outputs) as runtime:
        found = [
            runtime.values({name: array[start : start + fed.size] for name, array in fed.feed.items()})
            for start in starts
        ]
    return Values({f"{number}/{name}": array for number, batch in enumerate(found) for name, array in batch.items()})


def softmaxes(file: File) -> Softmaxes:
    """How many softmaxes a file has; 0 where that cannot be told."""
    engine = file.runtime()
    return Softmaxes(_exporter(engine).softmaxes(engine.files_of(file.path)[0]))


def _exporter(engine: type[Runtime]) -> Exporter:
    found: Exporter = plugins.load(plugins.EXPORTERS, engine.target)
    return found


def _ablation(engine: type[Runtime], files: Sequence[Path], numbers: Sequence[int]) -> tuple[Path, ...]:
    """The files, in the folder of the job, of the ablation without the softmaxes of these ``numbers``."""
    into = Path("ablation")
    into.mkdir()
    if not _exporter(engine).ablate(files[0], range(numbers[0], numbers[-1] + 1), into):
        raise UnavailableError("no ablation can be made of this file")
    return tuple(engine.files_of(into / files[0].name))
