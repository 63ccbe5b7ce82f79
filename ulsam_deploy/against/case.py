"""An artifact with its ports matched to a network's tensors: used with the network's names and layout, in float32."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ulsam_deploy.against.guard import Guarded
from ulsam_deploy.device.arrays import Array, ArrayMap
from ulsam_deploy.device.findings import EngineFacts
from ulsam_deploy.device.interpreters import in_a_process
from ulsam_deploy.device.runtime import Runtime
from ulsam_deploy.device.types import TensorSpec


@dataclass(frozen=True)
class Case:
    """``inputs`` and ``outputs`` map the network's names to the artifact's ports; ``files`` are the artifact's."""

    guarded: Guarded
    files: tuple[Path, ...]
    inputs: Mapping[str, TensorSpec]
    outputs: Mapping[str, TensorSpec]

    def run(self, inputs: ArrayMap, without: Sequence[int] = ()) -> tuple[dict[str, Array], EngineFacts]:
        """Run the artifact; returns its outputs, (P, ...) by the network's names, and the engine's facts.

        With ``without``, run its ablation in which the softmaxes of these numbers, in execution order, give zero.
        """
        ports = tuple(self.inputs.values()), tuple(self.outputs.values())
        found = self.guarded.run(*ports, self.feed(inputs), without)
        return {name: found.arrays[port.name] for name, port in self.outputs.items()}, found.facts

    def run_in(self, engine: type[Runtime], inputs: ArrayMap) -> tuple[dict[str, Array], EngineFacts]:
        """As :meth:`run`, in another ``engine`` of the artifact's target."""
        ports = tuple(self.inputs.values()), tuple(self.outputs.values())
        arrays, facts = in_a_process(self.files, *ports, self.guarded.limits)(engine, self.feed(inputs))
        return {name: arrays[port.name] for name, port in self.outputs.items()}, facts

    def opened_by(self, engine: type[Runtime]) -> Case:
        """The same artifact in another ``engine``."""
        return replace(self, guarded=replace(self.guarded, engine=engine))

    def values(self, inputs: ArrayMap, size: int, without: Sequence[int] = ()) -> list[dict[str, Array]]:
        """Every inner tensor of the artifact, or of such an ablation, for each batch of ``size`` rows of ``inputs``."""
        ports = tuple(self.inputs.values()), tuple(self.outputs.values())
        return self.guarded.values(*ports, self.feed(inputs), size, without)

    def feed(self, inputs: ArrayMap) -> dict[str, Array]:
        """``inputs`` by port, in the port's dtype but still in PyTorch's layout."""
        return {port.name: np.asarray(inputs[name]).astype(port.dtype) for name, port in self.inputs.items()}
