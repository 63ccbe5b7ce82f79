"""Values that all packages share: evidence levels, tensors, blocks, artifacts, calibration sets. Device-safe."""

from __future__ import annotations

import enum
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ulsam_deploy.device.arrays import Array, ArrayMap
from ulsam_deploy.device.findings import ArtifactFacts
from ulsam_deploy.device.spelling import folded, unknown

if TYPE_CHECKING:  # the command line starts without importing numpy
    pass


class EvidenceLevel(enum.IntEnum):
    """How far an artifact was shown to work; a report never claims a higher level than was reached."""

    EXPORTED = 1
    PARSED = 2
    COMPILED = 3
    EXECUTED = 4
    EMULATED_ON_DEVICE_CPU = 5
    MEASURED_ON_DEVICE = 6

    @property
    def label(self) -> str:
        """The name used on the command line and in reports, e.g. ``emulated-on-device-cpu``."""
        return self.name.lower().replace("_", "-")

    @classmethod
    def from_label(cls, label: str) -> EvidenceLevel:
        """The level called ``label``; raises a :class:`UsageError` that lists the known levels if there is none."""
        for level in cls:
            if folded(level.label) == folded(label):
                return level
        raise unknown(f"unknown evidence level '{label}'", label, [level.label for level in cls])


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
    """One ULSAM block that was fused: its module path in PyTorch and its geometry (H x W may be dynamic: 0)."""

    path: str
    channels: int
    subspaces: int
    height: int
    width: int

    @property
    def geometry(self) -> str:
        """``64/4 14x14``: channels, subspaces and map size, which determine the choice of a lowering."""
        return f"{self.channels}/{self.subspaces} {self.height}x{self.width}"


@dataclass(frozen=True)
class Refusal:
    """Operations that look like ULSAM attention and were not fused, and why."""

    path: str
    reason: str


@dataclass(frozen=True)
class Artifact:
    """What an exporter produces for one target and one precision.

    ``files`` are names inside the artifact's folder; the runtime opens the first one. ``level`` is the evidence level
    that the exporter itself reached (``EXPORTED``, ``PARSED`` or ``COMPILED``). ``toolchain`` maps package to version.
    ``facts`` are the exporter's findings (operator counts, the compile log's summary, the exact ``trtexec`` line).
    """

    target: str
    precision: str
    files: tuple[str, ...]
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    level: EvidenceLevel
    toolchain: Mapping[str, str]
    facts: ArtifactFacts = field(default_factory=ArtifactFacts)


@dataclass(frozen=True)
class StepGrid:
    """The steps that a tensor inside an artifact is rounded to, as its file states them.

    ``steps``, and the ``lowest`` and ``highest`` value: one for the tensor, or one for each place along ``axis``, in
    the artifact's own layout. ``source``: the tensor that is rounded; empty where the engine shows none.
    """

    steps: tuple[float, ...]
    lowest: tuple[float, ...]
    highest: tuple[float, ...]
    axis: int
    source: str = ""


@dataclass(frozen=True)
class Availability:
    """Whether a backend can be used here: its version, or what is missing and what to install."""

    usable: bool
    detail: str
    todo: str = ""


@dataclass(frozen=True)
class Calibration:
    """Real inputs that int8 takes its ranges from: ``arrays`` by input, ``(N, ...)`` float32, as fed to the network.

    ``digest``: SHA-256 of the preprocessed arrays, which identifies the set in caches and manifests.
    """

    arrays: ArrayMap
    digest: str

    @property
    def count(self) -> int:
        """The number of samples."""
        return len(next(iter(self.arrays.values())))

    def batches(self, size: int, most: int | None = None) -> Iterator[dict[str, Array]]:
        """The first ``most`` samples by input name in batches of ``size``; the last is filled up from the front."""
        import numpy as np

        for start in range(0, min(self.count, most or self.count), size):
            rows = np.arange(start, start + size) % self.count
            yield {name: np.ascontiguousarray(array[rows]) for name, array in self.arrays.items()}
