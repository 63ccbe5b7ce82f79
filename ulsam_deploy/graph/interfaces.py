"""The interfaces of the wings on the host: :class:`Exporter`, a target format, and :class:`Network`, a family."""

from __future__ import annotations

import abc
from collections.abc import Callable, Iterable, Mapping
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

        Raises :class:`~ulsam_deploy.device.errors.ExportError` with the converter's own words.
        """

    def check_device(self, name: str) -> None:  # noqa: B027 - nothing to say is the usual answer
        """Raise :class:`UnavailableError` where nothing can be made for the device profile ``name``.

        Args:
            name: a known profile; asked of an exporter with :attr:`for_devices` only.
        """

    def softmaxes(self, model: Path) -> int:  # noqa: ARG002
        """How many softmaxes the file ``model`` has, whoever made it; 0 where this format cannot be read so."""
        return 0

    def ablate(self, model: Path, chosen: range, into: Path) -> bool:  # noqa: ARG002
        """Write the ablation of the file ``model`` into the folder ``into``, by the same name: some of its softmaxes
        zero.

        ``chosen`` are their numbers in running order: those of one block, so that its attention is zero. All else
        stays, scales too. False, and nothing is written, where this format has no ablations or the file no such
        softmaxes.
        """
        return False

    def study(self, artifact: Artifact, folder: Path, golden: Golden) -> Study | None:  # noqa: ARG002
        """What can be shown about ``artifact``, in ``folder``, where no engine runs it; ``None``: nothing more."""
        return None


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
    def build(self, config: Mapping[str, object]) -> nn.Module:
        """A freshly initialised network in ``eval`` mode; raises :class:`UsageError` on an impossible ``config``."""

    @abc.abstractmethod
    def input_shape(self, config: Mapping[str, object]) -> tuple[int, int, int]:
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

    def blocks(self, config: Mapping[str, object]) -> int | None:  # noqa: ARG002
        """How many ULSAM blocks the network has; ``None`` where that is not known."""
        return None

    def backbone(self, config: Mapping[str, object]) -> Mapping[str, Any] | None:  # noqa: ARG002
        """The configuration of the same network without ULSAM; ``None`` where there is none."""
        return None

    def rename(self, keys: Iterable[str]) -> dict[str, str]:  # noqa: ARG002
        """Our name of each key that is written in another layout of this network; ``{}`` when none is.

        Applied before :meth:`recognize`; keys that the result leaves out keep their names.
        """
        return {}

    def warnings(self, state_dict: Mapping[str, object]) -> tuple[str, ...]:  # noqa: ARG002
        """What a user should know about these weights although they load, a sentence each."""
        return ()
