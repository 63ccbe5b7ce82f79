"""What an engine tells about itself and about the artifact that it opened. Standard library only; device-safe."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

#: A value that has no parts, as JSON knows them.
Scalar = str | int | float | bool


@dataclass(frozen=True)
class EngineFacts:
    """What :meth:`~ulsam_deploy.device.runtime.Runtime.facts` tells: who computes, and how.

    ``threads``: 0 for as many as there are cores; ``None`` where the engine has none. ``precision``: what it was seen
    to compute in, the lowest that takes part; empty where it doesn't tell. ``layer_precisions`` counts layers by it.
    ``gpu``: the name of the GPU, empty on a processor. ``device``: the board that it ran on, where it was one;
    ``emulated``: its processor model, where that was emulated. ``details`` is what else an engine tells about itself;
    nothing in the core reads it.
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
