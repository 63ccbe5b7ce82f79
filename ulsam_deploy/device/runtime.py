"""The interface of an engine: :class:`Runtime` holds one loaded artifact and runs it. Device-safe.

Arrays cross it in *PyTorch's* layout (images NCHW); a runtime alone knows that its artifact wants NHWC.
"""

from __future__ import annotations

import abc
import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from ulsam_deploy.device.arrays import Array, ArrayMap
from ulsam_deploy.device.errors import UnavailableError, UsageError
from ulsam_deploy.device.findings import EngineFacts
from ulsam_deploy.device.shapes import shape_text
from ulsam_deploy.device.spelling import unknown
from ulsam_deploy.device.types import Availability, TensorSpec

if TYPE_CHECKING:  # numpy stays out of the command line's own words
    pass


class Runtime(abc.ABC):
    """One engine holding one loaded artifact. Entry point group ``ulsam_deploy.runtimes``: a class.

    A context manager with one way to run. Subclasses fill the four hooks; checking names, shapes and dtypes and
    converting layouts happens here, once, so that a static artifact given another batch is always an error.
    """

    name: ClassVar[str]
    target: ClassVar[str]
    #: What people call it, or its target, besides :attr:`name` and :attr:`target`; case, ``-`` and ``_`` don't matter.
    aliases: ClassVar[tuple[str, ...]] = ()
    #: Suffixes of the files that :meth:`ports` can read when nobody described them; empty: none.
    opens: ClassVar[tuple[str, ...]] = ()
    #: The precisions of artifacts that it runs: all that its target's exporter makes.
    precisions: ClassVar[tuple[str, ...]] = ("fp32",)
    #: Whether an artifact is native code that runs when it is opened: a stranger's is refused.
    native: ClassVar[bool] = False
    #: An import and statements that set ``outputs`` from ``inputs`` (arrays by port) and the file ``PATH``, with the
    #: engine's public API alone: what a bug report carries.
    script: ClassVar[str] = ""

    def __init__(
        self,
        files: Sequence[Path],
        inputs: Sequence[TensorSpec],
        outputs: Sequence[TensorSpec],
        *,
        threads: int | None = None,
    ) -> None:
        self.files, self.inputs, self.outputs = tuple(files), tuple(inputs), tuple(outputs)
        self.threads = threads

    @classmethod
    def script_for(cls, facts: EngineFacts) -> str:  # noqa: ARG003
        """:attr:`script`, or what takes its place for an artifact of which :meth:`facts` says ``facts``."""
        return cls.script

    @classmethod
    @abc.abstractmethod
    def available(cls) -> Availability:
        """Whether the engine can run here, without importing it where that is costly."""

    @abc.abstractmethod
    def _load(self) -> None:
        """Open ``self.files`` with the engine."""

    @abc.abstractmethod
    def _run(self, inputs: dict[str, Array]) -> dict[str, Array]:
        """Run once; arrays are in the artifact's own layout and dtype."""

    @abc.abstractmethod
    def _close(self) -> None:
        """Let go of the engine's memory."""

    @abc.abstractmethod
    def facts(self) -> EngineFacts:
        """Engine, version, threads and precision really used, asked of the engine where it tells."""

    @classmethod
    def files_of(cls, path: Path) -> tuple[Path, ...]:
        """Every file of the artifact that is opened by ``path``, that one first.

        Raises :class:`~ulsam_deploy.device.errors.RefusedError` when it refers to files that are none of its own.
        """
        return (path,)

    def ports(self) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
        """Inputs and outputs as the open artifact itself states them, in its own axis order (layout ``as-is``)."""
        raise UnavailableError(f"{self.name} cannot say what inputs and outputs a file has")

    def values(self, inputs: ArrayMap) -> dict[str, Array]:
        """Every floating-point tensor inside the artifact, in its own layout, for one batch as in :meth:`run`.

        The engine may fuse less than usual while it shows them.
        """
        return self._values(self._ready(inputs))

    def _values(self, inputs: dict[str, Array]) -> dict[str, Array]:  # noqa: ARG002
        raise UnavailableError(f"{self.name} cannot show the values inside an artifact")

    def __enter__(self) -> Runtime:
        self._load()
        return self

    def __exit__(self, *exc: object) -> None:
        self._close()

    def run(self, inputs: ArrayMap) -> dict[str, Array]:
        """Run one batch, by name, in PyTorch's layout; raises :class:`UsageError` on a wrong name, shape or dtype."""
        produced = self._run(self._ready(inputs))
        return {spec.name: _from_artifact(spec, produced[spec.name]) for spec in self.outputs}

    def prepared(self, inputs: ArrayMap) -> Callable[[], object]:
        """A call of the engine on ``inputs`` and nothing else, to time: what :meth:`run` does before is done now."""
        return functools.partial(self._run, self._ready(inputs))

    def _ready(self, inputs: ArrayMap) -> dict[str, Array]:
        """``inputs`` checked, and in the artifact's own layout."""
        ready = {spec.name: to_artifact(spec, check_array(spec, inputs)) for spec in self.inputs}
        surplus = set(inputs) - set(ready)
        if surplus:
            word = min(surplus)
            raise unknown(f"unknown input '{word}'", word, [spec.name for spec in self.inputs])
        return ready


def check_array(spec: TensorSpec, inputs: ArrayMap) -> Array:
    """The array for ``spec`` out of ``inputs``, or a :class:`UsageError` that names what differs."""
    import numpy as np

    if spec.name not in inputs:
        raise UsageError(f"input '{spec.name}' is missing", expected=", ".join(sorted(inputs)) or "at least one array")
    array = np.asarray(inputs[spec.name])
    wanted = shape_text(spec.shape)
    given = shape_text(array.shape)
    if array.ndim != len(spec.shape) or any(w not in (None, g) for w, g in zip(spec.shape, array.shape)):
        hint = "feed the shape that the artifact was made for"
        if array.ndim == len(spec.shape) and all(w in (None, g) for w, g in zip(spec.shape[1:], array.shape[1:])):
            hint = f"this artifact is static: feed batches of {spec.shape[0]}, or export with --batch {array.shape[0]}"
        raise UsageError(f"input '{spec.name}' has shape {given}", expected=wanted, todo=hint)
    if array.dtype != np.dtype(spec.dtype):
        raise UsageError(f"input '{spec.name}' has dtype {array.dtype}", expected=spec.dtype)
    return array


def to_artifact(spec: TensorSpec, array: Array) -> Array:
    """``array``, in PyTorch's axis order, as the artifact stores it."""
    import numpy as np

    return np.ascontiguousarray(array.transpose(0, 2, 3, 1) if spec.layout == "NHWC" else array)


def _from_artifact(spec: TensorSpec, array: Array) -> Array:
    return array.transpose(0, 3, 1, 2) if spec.layout == "NHWC" else array
