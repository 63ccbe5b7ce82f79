"""The interfaces that plug-in packages on the host implement: :class:`Exporter`, a target, and :class:`Network`."""

from __future__ import annotations

import abc
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from ulsam_deploy.device.findings import Reason, StudyFacts, Verdict
from ulsam_deploy.device.types import Artifact, Availability, Calibration

if TYPE_CHECKING:  # torch stays out of what the command line imports
    from torch import nn

    from ulsam_deploy.device.parity import Golden
    from ulsam_deploy.graph.program import Program


@dataclass(frozen=True)
class ExportRequest:
    """What an exporter is requested to make of a program.

    Attributes:
        precision: One of :attr:`Exporter.precisions`.
        device: The name of a device profile, or empty.
        dla: Export for that device's deep learning accelerator.
        calibration: The inputs that int8 takes its ranges from.
        keep: PyTorch module paths whose operations stay in floating point; ``""`` is the whole network.
        lowerings: Pairs of a block's geometry (:attr:`Block.geometry`) and one of :attr:`Exporter.lowerings`, which
            replaces the exporter's own choice.
    """

    precision: str = "fp32"
    device: str = ""
    dla: bool = False
    calibration: Calibration | None = None
    keep: tuple[str, ...] = ()
    lowerings: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Study:
    """What a host can show about an artifact without its engine: :meth:`Exporter.study`.

    ``verdict`` is ``FAIL`` if something is wrong, and ``UNVERIFIED`` otherwise, because nothing was executed.
    """

    verdict: Verdict
    reasons: tuple[Reason, ...]
    facts: StudyFacts


class Exporter(abc.ABC):
    """One target format. Registered as a module-level instance in the entry point group ``ulsam_deploy.exporters``."""

    target: ClassVar[str]
    extra: ClassVar[str]
    runtime: ClassVar[str]
    precisions: ClassVar[tuple[str, ...]]
    dynamic_batch: ClassVar[bool] = True
    #: Whether its converter is native code that may end its process: it gets one of its own.
    isolated: ClassVar[bool] = False
    #: Whether the extra ``all`` does not contain its extra: where it isn't installed, the target "all" leaves it out.
    optional: ClassVar[bool] = False
    #: Whether it takes one input at a time: a batch of 1, and nothing else.
    single: ClassVar[bool] = False
    #: Whether its converter takes longer than others: when several run in parallel, it is started first.
    slow: ClassVar[bool] = False
    #: The names of the lowerings that it can choose from in fp32; empty if there is only one.
    lowerings: ClassVar[tuple[str, ...]] = ()
    #: Whether its artifact depends on the device profile, or on using that device's deep learning accelerator.
    for_devices: ClassVar[bool] = False

    @abc.abstractmethod
    def available(self) -> Availability:
        """Whether the converter is installed, without importing it (``importlib.util.find_spec`` and metadata)."""

    def available_in(self, precision: str) -> Availability:  # noqa: ARG002
        """Whether everything that ``precision`` needs is installed, again without importing it.

        Args:
            precision: One of :attr:`precisions`.

        Returns:
            The packages, with their versions, that the artifact depends on; or what is missing.
        """
        return self.available()

    def weight_levels(self) -> int:
        """How many steps of int8 there are from zero to the largest weight of an output channel: 127, or fewer.

        Engines on processors that add pairs of int8 products in 16 bits need smaller weights.
        """
        return 127

    @abc.abstractmethod
    def lowering(self, request: ExportRequest) -> Callable[..., Any]:
        """The torch function that replaces ``ulsam::subspace_attention`` on this target; it has the same signature."""

    def rewrites(self) -> Mapping[Any, Callable[..., Any]]:
        """What else is replaced for this target's converter, by torch operator.

        Each is a :data:`ulsam_deploy.graph.lowering.Rewrite`; like lowerings, they are proven equal each time.
        """
        return {}

    @abc.abstractmethod
    def export(self, program: Program, request: ExportRequest, folder: Path) -> Artifact:
        """Write the artifact of an already lowered ``program``.

        Args:
            program: The lowered program.
            request: What is requested.
            folder: An existing empty folder.

        Raises:
            ExportError: The converter failed; contains the converter's message.
        """

    def check_device(self, name: str) -> None:  # noqa: B027 - most exporters accept every device
        """Raise :class:`UnavailableError` if nothing can be made for the device profile ``name``.

        Args:
            name: A known profile. Called only for an exporter with :attr:`for_devices`.
        """

    def softmaxes(self, model: Path) -> tuple[str, ...]:  # noqa: ARG002
        """What the softmaxes of the file ``model``, made by any tool, give: in execution order, by the names of values.

        The names are those of :meth:`~ulsam_deploy.device.runtime.Runtime.values`. Empty if softmaxes cannot be found
        in this format.
        """
        return ()

    def ablate(self, model: Path, chosen: Sequence[int], into: Path) -> bool:  # noqa: ARG002
        """Write an ablation of ``model``: the same file, but the ``chosen`` softmaxes give zero.

        Everything else stays as it is, quantization scales too.

        Args:
            model: The file, made by any tool.
            chosen: The numbers of the softmaxes of one block, as :meth:`softmaxes` lists them.
            into: The folder for the ablation, which gets the same file name.

        Returns:
            False, and nothing is written, if this format has no ablations or the file has no such softmaxes.
        """
        return False

    def study(self, artifact: Artifact, folder: Path, golden: Golden) -> Study | None:  # noqa: ARG002
        """Study ``artifact``, in ``folder``, without an engine that runs it; ``None`` if nothing can be shown."""
        return None


@dataclass(frozen=True)
class Recognized:
    """A network that a :class:`Network` recognized by a checkpoint's keys and shapes."""

    network: str
    config: Mapping[str, Any]


class Network(abc.ABC):
    """One family of networks. Registered as a module-level instance in the entry point group ``ulsam_deploy.models``.

    A ``config`` is a JSON-serializable mapping; equal configurations build equal networks.
    """

    name: ClassVar[str]

    @abc.abstractmethod
    def recognize(self, shapes: Mapping[str, tuple[int, ...]]) -> Mapping[str, Any] | None:
        """The configuration whose ``state_dict`` has these keys and shapes, or ``None``; never guesses."""

    @abc.abstractmethod
    def build(self, config: Mapping[str, object]) -> nn.Module:
        """Build a new network in ``eval`` mode; raises :class:`UsageError` for a ``config`` that is impossible."""

    @abc.abstractmethod
    def input_shape(self, config: Mapping[str, object]) -> tuple[int, int, int]:
        """The default input shape: channels x height x width."""

    def resemble(self, shapes: Mapping[str, tuple[int, ...]]) -> Mapping[str, Any] | None:  # noqa: ARG002
        """A valid configuration that these keys resemble, for an error that lists the differences; or ``None``."""
        return None

    def named(self) -> Mapping[str, Mapping[str, Any]]:
        """Configurations that have a name of their own, for ``--arch NAME``."""
        return {}

    def figures(self) -> Mapping[str, Mapping[str, str]]:
        """Published figures of each configuration of :meth:`named`: by its name, then by a column's title."""
        return {}

    def blocks(self, config: Mapping[str, object]) -> int | None:  # noqa: ARG002
        """The number of ULSAM blocks in the network; ``None`` if unknown."""
        return None

    def backbone(self, config: Mapping[str, object]) -> Mapping[str, Any] | None:  # noqa: ARG002
        """The configuration of the same network without ULSAM; ``None`` if there is none."""
        return None

    def rename(self, keys: Iterable[str]) -> dict[str, str]:  # noqa: ARG002
        """Map the keys of another known layout of this network to ours; ``{}`` if ``keys`` have no such layout.

        Applied before :meth:`recognize`. Keys that are not in the result keep their names.
        """
        return {}

    def warnings(self, state_dict: Mapping[str, object]) -> tuple[str, ...]:  # noqa: ARG002
        """Sentences about these weights that the user should know although they load."""
        return ()
