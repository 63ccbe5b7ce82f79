"""Tries recipes: makes each artifact once, judges it, and caches every result, so that a search can be resumed."""

from __future__ import annotations

import contextlib
import dataclasses
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from ulsam_deploy.device.accuracy import Hits, Labelled, Paired, hits, open_labelled, paired
from ulsam_deploy.device.accuracy.measuring import class_count
from ulsam_deploy.device.arrays import Array
from ulsam_deploy.device.bench import intervals
from ulsam_deploy.device.bench.intervals import Interval
from ulsam_deploy.device.bench.measure import collect, warm_up
from ulsam_deploy.device.engines import runtime_for
from ulsam_deploy.device.errors import ExportError
from ulsam_deploy.device.files import scratch
from ulsam_deploy.device.runtime import Runtime
from ulsam_deploy.device.types import Artifact
from ulsam_deploy.exporting.build import Builder, BuiltArtifact
from ulsam_deploy.exporting.options import Recipe
from ulsam_deploy.exporting.search.trial import Trial, judgement
from ulsam_deploy.graph.interfaces import Exporter

__all__ = ["Trials"]

#: Two artifacts are timed in turns: the number of rounds, and the seconds for each artifact in a round.
ROUNDS, SECONDS = 9, 0.06


@dataclass(frozen=True)
class _Discordant:
    """The number of samples that PyTorch gets right and the artifact wrong (``lost``), and vice versa."""

    lost: int
    won: int


@dataclass(frozen=True)
class _Right:
    """Which samples the network gets right: one bit for each, in hexadecimal."""

    bits: str


class Trials:
    """The trials of one target's recipes; a context manager, which deletes the artifacts at its end.

    ``tried`` is in the order in which the trials were requested.
    """

    def __init__(self, builder: Builder, exporter: Exporter) -> None:
        self._builder, self._exporter = builder, exporter
        self._found: dict[Recipe, Trial] = {}
        self._stack = contextlib.ExitStack()
        self._kept: dict[Recipe, tuple[BuiltArtifact, Path]] = {}

    def __enter__(self) -> Trials:
        self._scratch = self._stack.enter_context(scratch())
        return self

    def __exit__(self, *exc: object) -> None:
        self._stack.close()

    @property
    def tried(self) -> tuple[Trial, ...]:
        """Every trial so far."""
        return tuple(self._found.values())

    def __call__(self, recipe: Recipe) -> Trial:
        """Try ``recipe``; if the converter refuses it, that is the trial's result."""
        if recipe not in self._found:
            name = f"try {self._exporter.target} {len(self._found) + 1}"
            with self._builder.progress.stage(name) as said:
                try:
                    trial = self._tried(recipe)
                except ExportError as error:
                    trial = Trial(recipe, failure=error.found.splitlines()[0])
                said.append(f"{trial.label}: {trial.failure or _figures(trial)}")
            self._found[recipe] = trial
        return self._found[recipe]

    def timed(self, recipe: Recipe, beside: Recipe) -> Trial:
        """The trial of ``recipe`` with the ratio of its time to that of ``beside``."""
        trial = self(recipe)
        if trial.ratio is None and not trial.failure:
            if recipe == beside:
                self._found[recipe] = dataclasses.replace(trial, ratio=Interval(1.0, 1.0, 1.0, 0, 1))
                return self._found[recipe]
            self._found[recipe] = trial = dataclasses.replace(trial, ratio=self.ratio(recipe, beside))
        return trial

    def ratio(self, recipe: Recipe, beside: Recipe) -> Interval:
        """The ratio of the time of ``recipe`` to that of ``beside``, measured in turns; both must be possible."""
        with self._builder.progress.stage(f"time {self._exporter.target}") as said:
            entries = [self._builder.key(self._exporter, one) for one in (recipe, beside)]
            ratio = self._builder.workspace.value(Interval, entries, lambda: self._measured(recipe, beside))
            said.append(f"{self(recipe).label}: {interval_words(ratio)} of the time of {self(beside).label}")
        return ratio

    def lowerings(self, recipe: Recipe, geometry: str) -> list[str]:
        """The lowering of each block of ``geometry`` in the artifact by ``recipe``, if its exporter records it."""
        said = self._made(recipe)[0].artifact.facts.lowerings
        blocks = self._builder.prepared.card.blocks
        return [said[block.path] for block in blocks if block.geometry == geometry and block.path in said]

    def _tried(self, recipe: Recipe) -> Trial:
        made, folder = self._made(recipe)
        size = sum((folder / name).stat().st_size for name in made.artifact.files)
        trial = judgement(recipe, made.evidence, size)
        if self._data is None or trial.error is None:
            return trial
        return dataclasses.replace(trial, drop=self._drop(recipe, made.artifact, folder, self._data))

    def _made(self, recipe: Recipe) -> tuple[BuiltArtifact, Path]:
        """The artifact and its folder; made only once even if nothing may be cached."""
        if recipe not in self._kept:
            folder = self._scratch / str(len(self._found))
            self._kept[recipe] = self._builder.artifact(self._exporter, recipe, folder), folder
        return self._kept[recipe]

    @cached_property
    def _data(self) -> Labelled | None:
        path, card = self._builder.options.data, self._builder.prepared.card
        if path is None:
            return None
        return open_labelled(path, card.inputs, class_count(card.outputs), self._builder.options.preprocessing)

    @cached_property
    def _digest(self) -> str:
        return self._data.digest() if self._data else ""

    def _drop(self, recipe: Recipe, artifact: Artifact, folder: Path, data: Labelled) -> Paired:
        """Compare the artifact with PyTorch on the labelled data."""

        def compute() -> _Discordant:
            with self._runtime(artifact, folder) as runtime:
                own = hits(runtime.run, artifact.inputs, artifact.outputs, data).top1
            theirs = self._pytorch
            return _Discordant(int((theirs & ~own).sum()), int((own & ~theirs).sum()))

        about = [self._builder.key(self._exporter, recipe), self._digest]
        found = self._builder.workspace.value(_Discordant, about, compute)
        return paired(found.lost, found.won, data.count)

    @cached_property
    def _pytorch(self) -> Array:
        """Which samples the network itself gets right, bool (N,)."""
        from ulsam_deploy.load import eager

        builder, prepared, data = self._builder, self._builder.prepared, self._data
        assert data

        def compute() -> _Right:
            with builder.progress.stage("PyTorch on the data"):
                model = prepared.network.loaded().source.model
                found: Hits = eager.of_module(model, prepared.card.inputs, prepared.card.outputs, data)
            return _Right(np.packbits(found.top1).tobytes().hex())

        packed = bytes.fromhex(builder.workspace.value(_Right, [prepared.network.key, self._digest], compute).bits)
        return np.unpackbits(np.frombuffer(packed, np.uint8), count=data.count).astype(bool)

    def _measured(self, recipe: Recipe, beside: Recipe) -> Interval:
        """Time both with one thread, in turns, with the order changing from round to round."""
        feed = {
            name: array[: self._builder.prepared.batch] for name, array in self._builder.prepared.golden.inputs.items()
        }
        (ours, here), (theirs, there) = self._made(recipe), self._made(beside)
        with self._runtime(ours.artifact, here) as one, self._runtime(theirs.artifact, there) as other:
            runs = one.prepared(feed), other.prepared(feed)
            for run in runs:
                warm_up(run, 3, SECONDS)
            times: tuple[list[Any], list[Any]] = ([], [])
            for number in range(ROUNDS):
                for side in (0, 1) if number % 2 else (1, 0):
                    times[side].append(collect(runs[side], SECONDS, 5))
        return intervals.paired(intervals.log_times(times[0]) - intervals.log_times(times[1]))

    def _runtime(self, artifact: Artifact, folder: Path) -> Runtime:
        engine = runtime_for(self._exporter.target)
        files = [folder / name for name in artifact.files]
        return engine(files, artifact.inputs, artifact.outputs)


def interval_words(ratio: Interval | None) -> str:
    """The ratio as text: ``0.62 (0.60-0.65)``."""
    if ratio is None:
        return "-"
    return f"{ratio.estimate:.2f}" + (f" ({ratio.low:.2f}-{ratio.high:.2f})" if ratio.low and ratio.high else "")


def _figures(trial: Trial) -> str:
    said = [trial.verdict.value, f"error {trial.error:.2f}" if trial.error is not None else "no error"]
    if trial.least is not None:
        said.append(f"least retention {trial.least:.2f}")
    if trial.drop:
        said.append(f"drop {100 * trial.drop.drop:+.2f} points")
    return ", ".join(said)
