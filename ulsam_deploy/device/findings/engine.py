"""What an engine reports about itself and about the artifact that it opened. Standard library only; device-safe."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

#: A scalar JSON value.
Scalar = str | int | float | bool


@dataclass(frozen=True)
class EngineFacts:
    """The result of :meth:`~ulsam_deploy.device.runtime.Runtime.facts`: which engine computes, and how.

    ``threads``: 0 for as many as there are cores; ``None`` where the engine has none. ``precision``: the lowest
    precision it was observed to compute in; empty where it doesn't report one. ``layer_precisions`` counts layers by
    precision. ``gpu``: the name of the GPU, empty on a processor. ``device``: the board that it ran on, if any;
    ``emulated``: its processor model, where that was emulated. ``details`` is what else the engine reports; nothing in
    the core reads it.
    """

    engine: str
    version: str
    threads: int | None = field(default=None, metadata={"minimum": 0})
    precision: str = ""
    provider: str = ""
    gpu: str = ""
    device: str = ""
    emulated: str = ""
    layer_precisions: Mapping[str, int] = field(default_factory=dict, metadata={"minimum": 0})
    details: Mapping[str, Scalar] = field(default_factory=dict)

    @property
    def title(self) -> str:
        """Name and version."""
        return f"{self.engine} {self.version}".strip()
