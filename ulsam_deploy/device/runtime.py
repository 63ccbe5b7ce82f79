"""The interface of an engine: :class:`Runtime` holds one loaded artifact and runs it. Device-safe.

Callers pass and get arrays in *PyTorch's* layout (images NCHW); only the runtime knows whether its artifact is NHWC.
"""

from __future__ import annotations

import abc
import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from ulsam_deploy.device.arrays import Array, ArrayMap
from ulsam_deploy.device.errors import UnavailableError, UsageError
from ulsam_deploy.device.findings import EngineFacts
from ulsam_deploy.device.shapes import shape_text
from ulsam_deploy.device.spelling import unknown
from ulsam_deploy.device.types import Availability, StepGrid, TensorSpec

if TYPE_CHECKING:  # the command line starts without importing numpy
    pass


class Runtime(abc.ABC):
    """One engine holding one loaded artifact; a context manager.

    An entry point of the group ``ulsam_deploy.runtimes`` names a subclass. Subclasses implement ``available``,
    ``_load``, ``_run``, ``_close`` and ``facts``. This class checks names, shapes and dtypes and converts layouts, so
    that a wrong batch for a static artifact is an error with every engine.

    ``threads``: how many the engine may use; ``None``: as many as it chooses. ``provider``: one of :attr:`providers`;
    empty: the engine's usual one. ``precise``: compute in the artifact's own precision; else in what the engine's
    defaults choose, as whoever opens the file without options.
    """

    name: ClassVar[str]
    target: ClassVar[str]
    #: Other names of it or of its target, besides :attr:`name` and :attr:`target`; case, ``-`` and ``_`` don't matter.
    aliases: ClassVar[tuple[str, ...]] = ()
    #: Where a target has several engines, the installed one with the least is its engine: it is timed, shows inner
    #: values, and runs everything. The others are interpreters, which run every artifact once as well.
    preference: ClassVar[int] = 0
    #: Suffixes of files whose inputs and outputs :meth:`ports` can read from the file alone; empty: none.
    opens: ClassVar[tuple[str, ...]] = ()
    #: The precisions of the artifacts that it runs: all that its target's exporter makes.
    precisions: ClassVar[tuple[str, ...]] = ("fp32",)
    #: Whether an artifact is native code that runs when it is opened; such an artifact is refused if it is untrusted.
    native: ClassVar[bool] = False
    #: Code for bug reports: an import, and statements that compute ``outputs`` from ``inputs`` (arrays by port) and the
    #: file ``PATH`` with the engine's public API alone.
    script: ClassVar[str] = ""
    #: What it can run on, where the caller may choose; empty: it runs on one thing.
    providers: ClassVar[tuple[str, ...]] = ()

    def __init__(
        self,
        files: Sequence[Path],
        inputs: Sequence[TensorSpec],
        outputs: Sequence[TensorSpec],
        *,
        threads: int | None = 1,
        provider: str = "",
        precise: bool = True,
    ) -> None:
        if provider and provider not in self.providers:
            raise unknown(f"{self.name} has no provider '{provider}'", provider, self.providers)
        self.files, self.inputs, self.outputs = tuple(files), tuple(inputs), tuple(outputs)
        self.threads, self.provider, self.precise = threads, provider, precise

    @classmethod
    def script_for(cls, facts: EngineFacts) -> str:  # noqa: ARG003
        """:attr:`script`, or its replacement for an artifact for which :meth:`facts` returned ``facts``."""
        return cls.script

    @classmethod
    def default_precision(cls) -> str:
        """The precision in which the engine's defaults compute float32 artifacts here; empty if that is float32."""
        return ""

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
        """Release the engine's memory."""

    @abc.abstractmethod
    def facts(self) -> EngineFacts:
        """Engine, version, threads and precision actually used, as reported by the engine where it reports them."""

    @classmethod
    def files_of(cls, path: Path) -> tuple[Path, ...]:
        """Every file of the artifact that is opened by ``path``, with ``path`` first.

        Raises :class:`~ulsam_deploy.device.errors.RefusedError` if it refers to files that don't belong to it.
        """
        return (path,)

    def ports(self) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
        """The inputs and outputs that the open artifact itself declares, in its own axis order (layout ``as-is``)."""
        raise UnavailableError(f"{self.name} cannot say what inputs and outputs a file has")

    def values(self, inputs: ArrayMap) -> dict[str, Array]:
        """Every floating-point tensor inside the artifact, in its own layout, for one batch as in :meth:`run`.

        The engine may fuse fewer operators than usual while it shows them.
        """
        return self._values(self._ready(inputs))

    def _values(self, inputs: dict[str, Array]) -> dict[str, Array]:  # noqa: ARG002
        raise UnavailableError(f"{self.name} cannot show the values inside an artifact")

    def _encoded(self, name: str, array: Array) -> Array:  # noqa: ARG002
        """The real numbers of input ``name`` as the artifact stores them, where it takes integers with a scale."""
        return array

    def _decoded(self, name: str, array: Array) -> Array:  # noqa: ARG002
        """The reverse for output ``name``."""
        return array

    def grids(self) -> Mapping[str, StepGrid]:
        """The tensors of :meth:`values` that are rounded to steps, as the open artifact states it; none by default."""
        return {}

    def __enter__(self) -> Runtime:
        self._load()
        return self

    def __exit__(self, *exc: object) -> None:
        self._close()

    def run(self, inputs: ArrayMap) -> dict[str, Array]:
        """Run one batch, by name, in PyTorch's layout; raises :class:`UsageError` on a wrong name, shape or dtype."""
        produced = self._run(self._ready(inputs))
        return {spec.name: self._decoded(spec.name, _from_artifact(spec, produced[spec.name])) for spec in self.outputs}

    def prepared(self, inputs: ArrayMap) -> Callable[[], object]:
        """A call of the engine alone on ``inputs``, for timing: checks and layout conversion are done beforehand."""
        return functools.partial(self._run, self._ready(inputs))

    def _ready(self, inputs: ArrayMap) -> dict[str, Array]:
        """``inputs`` checked, and in the artifact's own layout."""
        ready = {spec.name: to_artifact(spec, check_array(spec, inputs)) for spec in self.inputs}
        ready = {name: self._encoded(name, array) for name, array in ready.items()}
        surplus = set(inputs) - set(ready)
        if surplus:
            word = min(surplus)
            raise unknown(f"unknown input '{word}'", word, [spec.name for spec in self.inputs])
        return ready


def check_array(spec: TensorSpec, inputs: ArrayMap) -> Array:
    """The array of ``inputs`` for ``spec``; raises a :class:`UsageError` that names what differs."""
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
    """Convert ``array`` from PyTorch's axis order to the artifact's."""
    import numpy as np

    return np.ascontiguousarray(array.transpose(0, 2, 3, 1) if spec.layout == "NHWC" else array)


def _from_artifact(spec: TensorSpec, array: Array) -> Array:
    return array.transpose(0, 3, 1, 2) if spec.layout == "NHWC" else array
