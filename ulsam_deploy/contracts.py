"""The nouns that travel along the road, and the two contracts that the wings fulfil.

Standard library, and numpy where arrays are; device-safe. Arrays cross every boundary in *PyTorch's* layout (images
NCHW); a runtime alone knows that its artifact wants NHWC.
"""

from __future__ import annotations

import abc
import enum
import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from ulsam_deploy.errors import UnavailableError, UsageError
from ulsam_deploy.findings import ArtifactFacts, EngineFacts, Reason, StudyFacts, Verdict
from ulsam_deploy.spelling import folded, unknown

if TYPE_CHECKING:  # torch stays out of every device-safe module, and numpy out of the command line's own words
    import numpy as np
    from torch import nn

    from ulsam_deploy.parity import Golden
    from ulsam_deploy.program import Program

    ArrayMap = Mapping[str, np.ndarray[Any, Any]]
else:
    ArrayMap = Mapping

__all__ = [
    "ArrayMap", "Artifact", "ArtifactFacts", "Availability", "Block", "Calibration", "EngineFacts", "ExportRequest",
    "Exporter", "Network", "Reason", "Recognized", "Refusal", "Runtime", "Study", "StudyFacts", "TensorSpec", "Tier",
    "Verdict", "check_array", "to_artifact",
]  # fmt: skip


class Tier(enum.IntEnum):
    """How far an artifact was shown to work; a report never claims more than was reached."""

    EXPORTED = 1
    PARSED = 2
    COMPILED = 3
    EXECUTED = 4
    EMULATED_ON_DEVICE_CPU = 5
    MEASURED_ON_DEVICE = 6

    @property
    def label(self) -> str:
        """The word used on the command line and in reports, e.g. ``emulated-on-device-cpu``."""
        return self.name.lower().replace("_", "-")

    @classmethod
    def from_label(cls, label: str) -> Tier:
        """The tier called ``label``; raises :class:`UsageError` that lists the known ones."""
        for tier in cls:
            if folded(tier.label) == folded(label):
                return tier
        raise unknown(f"unknown evidence tier '{label}'", label, [tier.label for tier in cls])


@dataclass(frozen=True)
class TensorSpec:
    """One input or output of an artifact.

    ``shape`` is in PyTorch's order with ``None`` for a dynamic axis; ``layout`` is how the *artifact* stores it:
    ``"as-is"``, or ``"NHWC"`` for a 4-D tensor whose channels come last in the artifact.
    """

    name: str
    shape: tuple[int | None, ...]
    dtype: str = "float32"
    layout: str = "as-is"


@dataclass(frozen=True)
class Block:
    """One ULSAM block that was raised: its module path in PyTorch and its geometry (H x W may be dynamic: 0)."""

    path: str
    channels: int
    subspaces: int
    height: int
    width: int

    @property
    def geometry(self) -> str:
        """``64/4 14x14``: channels, subspaces and map; what the choice of a lowering goes by."""
        return f"{self.channels}/{self.subspaces} {self.height}x{self.width}"


@dataclass(frozen=True)
class Refusal:
    """Something that looks like ULSAM attention and was left as it is, and why."""

    path: str
    reason: str


@dataclass(frozen=True)
class Artifact:
    """What an exporter leaves for one target and one precision.

    ``files`` are names inside the artifact's folder; the first one is what the runtime opens. ``tier`` is what the
    exporter itself reached (``EXPORTED``, ``PARSED`` or ``COMPILED``). ``toolchain`` maps package to version. ``facts``
    are the exporter's findings (operator counts, the compile log's summary, the exact ``trtexec`` line).
    """

    target: str
    precision: str
    files: tuple[str, ...]
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    tier: Tier
    toolchain: Mapping[str, str]
    facts: ArtifactFacts = field(default_factory=ArtifactFacts)


@dataclass(frozen=True)
class Availability:
    """Whether a backend can be used here: its version, or what is missing and what to install."""

    usable: bool
    detail: str
    todo: str = ""


@dataclass(frozen=True)
class Calibration:
    """Real inputs that ranges are taken from: ``arrays`` ``(N, ...)`` float32 by input, as the network is fed.

    ``digest``: SHA-256 of the preprocessed arrays; what caches and manifests know the set by.
    """

    arrays: ArrayMap
    digest: str


@dataclass(frozen=True)
class ExportRequest:
    """What was asked of an exporter, besides the program. ``device`` names a device profile or is empty.

    ``dla``: for that device's deep learning accelerator. ``calibration``: what int8 takes its ranges from. ``keep``:
    PyTorch module paths whose operations stay in floating point; ``""`` is the whole network. ``lowerings``: for blocks
    of a geometry (:attr:`Block.geometry`), one of :attr:`Exporter.lowerings` instead of the exporter's own choice.
    """

    precision: str = "fp32"
    device: str = ""
    dla: bool = False
    calibration: Calibration | None = None
    keep: tuple[str, ...] = ()
    lowerings: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Study:
    """What a host could show about an artifact without its engine: :meth:`Exporter.study`.

    ``verdict`` is ``FAIL`` where something is wrong, and ``UNVERIFIED`` otherwise: nothing was executed.
    """

    verdict: Verdict
    reasons: tuple[Reason, ...]
    facts: StudyFacts


class Exporter(abc.ABC):
    """One target format. Entry point group ``ulsam_deploy.exporters``: a module-level instance."""

    target: ClassVar[str]
    extra: ClassVar[str]
    runtime: ClassVar[str]
    precisions: ClassVar[tuple[str, ...]]
    dynamic_batch: ClassVar[bool] = True
    #: Whether its converter takes longer than others do: where several work abreast, it is the first to start.
    slow: ClassVar[bool] = False
    #: The names of the lowerings that it can choose among in fp32; empty where there is one only.
    lowerings: ClassVar[tuple[str, ...]] = ()
    #: Whether it makes something else for a device profile, or for that device's deep learning accelerator.
    for_devices: ClassVar[bool] = False

    @abc.abstractmethod
    def available(self) -> Availability:
        """Whether the converter is installed, without importing it (``importlib.util.find_spec`` and metadata)."""

    def available_in(self, precision: str) -> Availability:  # noqa: ARG002
        """Whether what one of :attr:`precisions` needs is installed as well; again without importing it.

        Args:
            precision: One of :attr:`precisions`.

        Returns:
            The packages with their versions, on which the artifact depends; or what is missing.
        """
        return self.available()

    @abc.abstractmethod
    def lowering(self, request: ExportRequest) -> Callable[..., Any]:
        """The torch function that says what ``ulsam::subspace_attention`` means on this target (same signature)."""

    @abc.abstractmethod
    def export(self, program: Program, request: ExportRequest, folder: Path) -> Artifact:
        """Write the artifact of an already lowered ``program`` into the existing empty ``folder``.

        Raises :class:`~ulsam_deploy.errors.ExportError` with the converter's own words.
        """

    def check_device(self, name: str) -> None:  # noqa: B027 - nothing to say is the usual answer
        """Raise :class:`UnavailableError` where nothing can be made for the device profile ``name``.

        Args:
            name: a known profile; asked of an exporter with :attr:`for_devices` only.
        """

    def softmaxes(self, model: Path) -> int:  # noqa: ARG002
        """How many softmaxes the file ``model`` has, whoever made it; 0 where this format cannot be read so."""
        return 0

    def silence(self, model: Path, chosen: range, into: Path) -> bool:  # noqa: ARG002
        """Write the twin of the file ``model`` into the folder ``into``, by the same name: some of its softmaxes zero.

        ``chosen`` are their numbers in running order: those of one block, so that its attention is zero. All else
        stays, scales too. False, and nothing is written, where this format has no twins or the file no such softmaxes.
        """
        return False

    def study(self, artifact: Artifact, folder: Path, golden: Golden) -> Study | None:  # noqa: ARG002
        """What can be shown about ``artifact``, in ``folder``, where no engine runs it; ``None``: nothing more."""
        return None


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
    def _run(self, inputs: dict[str, np.ndarray[Any, Any]]) -> dict[str, np.ndarray[Any, Any]]:
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

        Raises :class:`~ulsam_deploy.errors.RefusedError` when it refers to files that are none of its own.
        """
        return (path,)

    def ports(self) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
        """Inputs and outputs as the open artifact itself states them, in its own axis order (layout ``as-is``)."""
        raise UnavailableError(f"{self.name} cannot say what inputs and outputs a file has")

    def values(self, inputs: ArrayMap) -> dict[str, np.ndarray[Any, Any]]:
        """Every floating-point tensor inside the artifact, in its own layout, for one batch as in :meth:`run`.

        The engine may fuse less than usual while it shows them.
        """
        return self._values(self._ready(inputs))

    def _values(self, inputs: dict[str, np.ndarray[Any, Any]]) -> dict[str, np.ndarray[Any, Any]]:  # noqa: ARG002
        raise UnavailableError(f"{self.name} cannot show the values inside an artifact")

    def __enter__(self) -> Runtime:
        self._load()
        return self

    def __exit__(self, *exc: object) -> None:
        self._close()

    def run(self, inputs: ArrayMap) -> dict[str, np.ndarray[Any, Any]]:
        """Run one batch, by name, in PyTorch's layout; raises :class:`UsageError` on a wrong name, shape or dtype."""
        produced = self._run(self._ready(inputs))
        return {spec.name: _from_artifact(spec, produced[spec.name]) for spec in self.outputs}

    def prepared(self, inputs: ArrayMap) -> Callable[[], object]:
        """A call of the engine on ``inputs`` and nothing else, to time: what :meth:`run` does before is done now."""
        return functools.partial(self._run, self._ready(inputs))

    def _ready(self, inputs: ArrayMap) -> dict[str, np.ndarray[Any, Any]]:
        """``inputs`` checked, and in the artifact's own layout."""
        ready = {spec.name: to_artifact(spec, check_array(spec, inputs)) for spec in self.inputs}
        surplus = set(inputs) - set(ready)
        if surplus:
            word = min(surplus)
            raise unknown(f"unknown input '{word}'", word, [spec.name for spec in self.inputs])
        return ready


def check_array(spec: TensorSpec, inputs: ArrayMap) -> np.ndarray[Any, Any]:
    """The array for ``spec`` out of ``inputs``, or a :class:`UsageError` that names what differs."""
    import numpy as np

    if spec.name not in inputs:
        raise UsageError(f"input '{spec.name}' is missing", expected=", ".join(sorted(inputs)) or "at least one array")
    array = np.asarray(inputs[spec.name])
    wanted = "x".join("N" if size is None else str(size) for size in spec.shape)
    given = "x".join(map(str, array.shape))
    if array.ndim != len(spec.shape) or any(w not in (None, g) for w, g in zip(spec.shape, array.shape)):
        hint = "feed the shape that the artifact was made for"
        if array.ndim == len(spec.shape) and all(w in (None, g) for w, g in zip(spec.shape[1:], array.shape[1:])):
            hint = f"this artifact is static: feed batches of {spec.shape[0]}, or export with --batch {array.shape[0]}"
        raise UsageError(f"input '{spec.name}' has shape {given}", expected=wanted, todo=hint)
    if array.dtype != np.dtype(spec.dtype):
        raise UsageError(f"input '{spec.name}' has dtype {array.dtype}", expected=spec.dtype)
    return array


def to_artifact(spec: TensorSpec, array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """``array``, in PyTorch's axis order, as the artifact stores it."""
    import numpy as np

    return np.ascontiguousarray(array.transpose(0, 2, 3, 1) if spec.layout == "NHWC" else array)


def _from_artifact(spec: TensorSpec, array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return array.transpose(0, 3, 1, 2) if spec.layout == "NHWC" else array


@dataclass(frozen=True)
class Recognized:
    """A network that a wing's :class:`Network` read out of a checkpoint's keys and shapes."""

    network: str
    config: Mapping[str, Any]


class Network(abc.ABC):
    """One family of networks. Entry point group ``ulsam_deploy.models``: a module-level instance.

    ``config`` is a JSON-able mapping; the same one always builds the same network.
    """

    name: ClassVar[str]

    @abc.abstractmethod
    def recognize(self, shapes: Mapping[str, tuple[int, ...]]) -> Mapping[str, Any] | None:
        """The configuration whose ``state_dict`` has these keys and shapes, or ``None``; never guesses."""

    @abc.abstractmethod
    def build(self, config: Mapping[str, Any]) -> nn.Module:
        """A freshly initialised network in ``eval`` mode; raises :class:`UsageError` on an impossible ``config``."""

    @abc.abstractmethod
    def input_shape(self, config: Mapping[str, Any]) -> tuple[int, int, int]:
        """The default input, channels x height x width."""

    def resemble(self, shapes: Mapping[str, tuple[int, ...]]) -> Mapping[str, Any] | None:  # noqa: ARG002
        """A buildable configuration that these keys resemble, to name what differs in an error; or ``None``."""
        return None

    def named(self) -> Mapping[str, Mapping[str, Any]]:
        """Configurations that have a name of their own, for ``--arch NAME``."""
        return {}

    def figures(self) -> Mapping[str, Mapping[str, str]]:
        """What is known about each configuration of :meth:`named`: by its name, then by a column's title."""
        return {}

    def blocks(self, config: Mapping[str, Any]) -> int | None:  # noqa: ARG002
        """How many ULSAM blocks the network has; ``None`` where that is not known."""
        return None

    def backbone(self, config: Mapping[str, Any]) -> Mapping[str, Any] | None:  # noqa: ARG002
        """The configuration of the same network without ULSAM; ``None`` where there is none."""
        return None

    def rename(self, keys: Iterable[str]) -> dict[str, str]:  # noqa: ARG002
        """Our name of each key that is written in another layout of this network; ``{}`` when none is.

        Applied before :meth:`recognize`; keys that the result leaves out keep their names.
        """
        return {}

    def warnings(self, state_dict: Mapping[str, Any]) -> tuple[str, ...]:  # noqa: ARG002
        """What a user should know about these weights although they load, a sentence each."""
        return ()
