"""The caller's side of a fresh process that times one artifact; the other is :mod:`ulsam_deploy.device.bench.worker`.

Standard library and numpy only; device-safe.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from ulsam_deploy.device import share
from ulsam_deploy.device.arrays import ArrayMap
from ulsam_deploy.device.bench import worker
from ulsam_deploy.device.bench.result import Parity
from ulsam_deploy.device.elsewhere import job
from ulsam_deploy.device.elsewhere.limits import Limits
from ulsam_deploy.device.elsewhere.worker import Worker
from ulsam_deploy.device.types import TensorSpec

__all__ = ["FreshProcess", "Subject"]

Q = TypeVar("Q")
A = TypeVar("A")


@dataclass(frozen=True)
class Subject:
    """One artifact to time. ``model`` identifies the bundle; ``runtime`` an entry point; ``feed`` one batch by input.

    ``size`` is in bytes, of all ``files`` together; ``sha256`` is over their digests. ``limits``: those of each
    process; their seconds are the timeout of one call of the engine.
    """

    model: str
    target: str
    precision: str
    runtime: str
    files: tuple[Path, ...]
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    feed: ArrayMap
    sha256: str
    size: int
    parity: Parity | None = None
    limits: Limits = field(default_factory=Limits)
    provider: str = ""

    @property
    def label(self) -> str:
        """``onnx fp32``: unique in a bundle."""
        return f"{self.target} {self.precision}"

    @property
    def batch(self) -> int:
        """Inputs in one call."""
        return len(next(iter(self.feed.values())))


class FreshProcess:
    """A fresh process as a context manager; leaving it kills the process.

    Raises the :class:`~ulsam_deploy.device.errors.UlsamError` of the process, or an
    :class:`~ulsam_deploy.device.errors.ExportError` with the end of its output if it died.
    """

    def __init__(
        self, subject: Subject, *, threads: int | None, cpus: Sequence[int], warmup: int, warmup_seconds: float
    ) -> None:
        self._subject = subject
        self._load = worker.Load(
            subject.runtime, subject.files, subject.inputs, subject.outputs, subject.feed,
            threads, subject.provider, tuple(cpus), warmup, warmup_seconds,
        )  # fmt: skip

    def __enter__(self) -> FreshProcess:
        self._worker = Worker(self._subject.limits, quiet=True, environment=share.unclaimed())
        try:
            self.ready = self._ask(worker.load, self._load, self._load.warmup + 2, self._load.warmup_seconds)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._worker.__exit__()

    @property
    def pid(self) -> int:
        """The id of the process."""
        return self._worker.pid

    def measure(self, min_seconds: float, min_count: int) -> worker.Taken:
        """Take samples; afterwards the network keeps running until :meth:`rest`."""
        return self._ask(worker.measure, worker.Measure(min_seconds, min_count), min_count, min_seconds)

    def spin(self) -> None:
        """Let the network run until :meth:`rest`."""
        self._ask(worker.spin, worker.Spin())

    def rest(self) -> worker.TimedCalls:
        """Stop the runs that :meth:`measure` or :meth:`spin` started."""
        return self._ask(worker.rest, worker.Rest())

    def _ask(self, function: Callable[[Q], A], request: Q, calls: int = 1, more: float = 0.0) -> A:
        """Call ``function``, with a timeout for ``calls`` calls of the engine and ``more`` seconds."""
        subject, doing = self._subject, f"timing '{self._subject.label}'"
        reply = self._worker.ask(function, request, doing, subject.limits.seconds * calls + more)
        return job.value_of(reply, subject.limits, doing)
