"""Runs an untrusted artifact in a separate process: whatever it does to its engine, the caller gets a clear error.

Standard library and numpy. The process's answer is not trusted either: strict JSON and plain arrays only.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from ulsam_deploy.against import worker
from ulsam_deploy.against.worker import Fed, File, Outputs, Ports
from ulsam_deploy.device.arrays import Array, ArrayMap
from ulsam_deploy.device.elsewhere import job
from ulsam_deploy.device.elsewhere.limits import Limits
from ulsam_deploy.device.runtime import Runtime
from ulsam_deploy.device.types import StepGrid, TensorSpec

Specs = tuple[TensorSpec, ...]
Q = TypeVar("Q")
A = TypeVar("A")


@dataclass(frozen=True)
class Guarded:
    """The artifact at ``path`` and its engine; every call opens it in a new process within ``limits``.

    Every method raises :class:`~ulsam_deploy.device.errors.ExportError` when the engine crashes or exceeds a limit, and
    the engine's own :class:`~ulsam_deploy.device.errors.UlsamError` otherwise.
    """

    engine: type[Runtime]
    path: Path
    limits: Limits

    def open(self) -> Ports:
        """The inputs and outputs that the artifact declares."""
        return self._do(worker.open_file, self._file)

    def run(self, inputs: Specs, outputs: Specs, feed: ArrayMap, without: Sequence[int] = ()) -> Outputs:
        """Run all of ``feed``; returns the outputs in PyTorch's layout, and the engine's facts.

        With ``without``, run the artifact's ablation in which the softmaxes of these numbers give zero.
        """
        return self._do(worker.run, Fed(self._file, inputs, outputs, feed, tuple(without)))

    def values(
        self, inputs: Specs, outputs: Specs, feed: ArrayMap, size: int, without: Sequence[int] = ()
    ) -> list[dict[str, Array]]:
        """Every inner floating-point tensor of the artifact, or of its ablation, for each batch of ``size`` rows.

        The tensors are in the artifact's own layout.
        """
        found = self._do(worker.values, Fed(self._file, inputs, outputs, feed, tuple(without), size))
        batches: dict[str, dict[str, Array]] = {}
        for key, array in found.arrays.items():
            number, _, name = key.partition("/")
            batches.setdefault(number, {})[name] = array
        return list(batches.values())

    def softmaxes(self) -> tuple[str, ...]:
        """What the artifact's softmaxes give, by the names of its values; empty if they cannot be determined."""
        return self._do(worker.softmaxes, self._file).names

    def grids(self) -> Mapping[str, StepGrid]:
        """The tensors inside the artifact that are rounded to steps, as it states it."""
        return self._do(worker.grids, self._file).found

    @property
    def _file(self) -> File:
        return File(self.engine.name, self.path.resolve())

    def _do(self, function: Callable[[Q], A], request: Q) -> A:
        return job.do(function, request, self.limits, f"{self.engine.name} on {self.path.name}")
