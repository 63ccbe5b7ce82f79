"""Opens an untrusted file in a process of its own, for :mod:`ulsam_deploy.against.guard`.

Standard library, numpy and the engine; device-safe. With ``without``, the file's ablation without these softmaxes is
made and opened instead; this also needs the packages of its exporter.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ulsam_deploy.device import plugins
from ulsam_deploy.device.arrays import ArrayMap
from ulsam_deploy.device.elsewhere.jail import noted
from ulsam_deploy.device.engines import produce
from ulsam_deploy.device.errors import UnavailableError
from ulsam_deploy.device.findings import EngineFacts
from ulsam_deploy.device.runtime import Runtime
from ulsam_deploy.device.types import StepGrid, TensorSpec
from ulsam_deploy.graph.interfaces import Exporter

__all__ = [
    "Fed", "File", "Grids", "Outputs", "Ports", "Softmaxes", "Values", "grids", "open_file", "run", "softmaxes",
    "values",
]  # fmt: skip


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
    """The inputs and outputs that a file declares, and all files that belong to it."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    files: tuple[Path, ...]


@dataclass(frozen=True)
class Fed:
    """A file and its inputs: ``feed``, (P, ...) by input name; ``size`` rows in a batch if values are requested.

    ``without``: the numbers of the softmaxes that give zero in its ablation; empty: the file itself.
    """

    file: File
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    feed: ArrayMap
    without: tuple[int, ...]
    size: int = 1

    def files(self) -> tuple[Path, ...]:
        """The files to open."""
        engine = self.file.runtime()
        files = engine.files_of(self.file.path)
        return _ablation(engine, files, self.without) if self.without else files


@dataclass(frozen=True)
class Outputs:
    """The outputs, (P, ...) by name, and the engine's facts."""

    arrays: ArrayMap
    facts: EngineFacts


@dataclass(frozen=True)
class Values:
    """Every inner value, by the number of its batch and its name: ``0/conv``."""

    arrays: ArrayMap


@dataclass(frozen=True)
class Grids:
    """The tensors inside a file that are rounded to steps, by name."""

    found: Mapping[str, StepGrid]


@dataclass(frozen=True)
class Softmaxes:
    """What the softmaxes of a file give, by the names of its values, in execution order."""

    names: tuple[str, ...]


def open_file(file: File) -> Ports:
    """Read what a file declares about itself."""
    engine = file.runtime()
    files = engine.files_of(file.path)
    with engine(files, (), ()) as runtime:
        return Ports(*runtime.ports(), files)


def run(fed: Fed) -> Outputs:
    """Run a file."""
    with fed.file.runtime()(fed.files(), fed.inputs, fed.outputs) as runtime:
        return Outputs(produce(runtime, fed.feed), noted(runtime.facts()))


def values(fed: Fed) -> Values:
    """Read the inner values of a file."""
    starts = range(0, len(next(iter(fed.feed.values()))), fed.size)
    with fed.file.runtime()(fed.files(), fed.inputs, fed.outputs) as runtime:
        found = [
            runtime.values({name: array[start : start + fed.size] for name, array in fed.feed.items()})
            for start in starts
        ]
    return Values({f"{number}/{name}": array for number, batch in enumerate(found) for name, array in batch.items()})


def grids(file: File) -> Grids:
    """Read what a file states about its tensors of 8 bits."""
    engine = file.runtime()
    with engine(engine.files_of(file.path), (), ()) as runtime:
        return Grids(runtime.grids())


def softmaxes(file: File) -> Softmaxes:
    """Find the softmaxes of a file; none if they cannot be determined."""
    engine = file.runtime()
    return Softmaxes(_exporter(engine).softmaxes(engine.files_of(file.path)[0]))


def _exporter(engine: type[Runtime]) -> Exporter:
    found: Exporter = plugins.load(plugins.EXPORTERS, engine.target)
    return found


def _ablation(engine: type[Runtime], files: Sequence[Path], numbers: Sequence[int]) -> tuple[Path, ...]:
    """Write the ablation without the softmaxes of these ``numbers`` into the folder of the job; returns its files."""
    into = Path("ablation")
    into.mkdir()
    if not _exporter(engine).ablate(files[0], numbers, into):
        raise UnavailableError("no ablation can be made of this file")
    return tuple(engine.files_of(into / files[0].name))
