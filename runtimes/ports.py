"""Checks that an opened artifact has the inputs and outputs that its specification claims; used by every runtime."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ulsam_deploy.device.arrays import Array
from ulsam_deploy.device.errors import ExportError
from ulsam_deploy.device.shapes import shape_text
from ulsam_deploy.device.types import TensorSpec


@dataclass(frozen=True)
class Steps:
    """How a port stores real numbers as integers: ``real = (stored - zero) * scale``."""

    dtype: str
    scale: float
    zero: int

    def encoded(self, array: Array) -> Array:
        """``array`` rounded to the nearest steps; what is beyond the range becomes its end."""
        ends = np.iinfo(self.dtype)
        steps = np.rint(np.asarray(array, np.float64) / self.scale) + self.zero
        return np.ascontiguousarray(np.clip(steps, ends.min, ends.max).astype(self.dtype))

    def decoded(self, array: Array) -> Array:
        """The real numbers, in float32."""
        return np.asarray((array.astype(np.float64) - self.zero) * self.scale, np.float32)


class SteppedPorts:
    """What a runtime does with ports that store integers: ``_steps`` has theirs by name, once it is open."""

    _steps: Mapping[str, Steps]

    def _encoded(self, name: str, array: Array) -> Array:
        return self._steps[name].encoded(array) if name in self._steps else array

    def _decoded(self, name: str, array: Array) -> Array:
        return self._steps[name].decoded(array) if name in self._steps else array


def check_ports(kind: str, specs: Iterable[TensorSpec], found: Mapping[str, Sequence[int | None]]) -> None:
    """Compare what the specification claims with what the engine found, dynamic axes included.

    Args:
        kind: ``input`` or ``output``.
        specs: What the specification claims.
        found: The engine's shapes by name, in the artifact's layout; ``None`` is a dynamic axis.

    Raises:
        ExportError: A name is missing or a shape differs.
    """
    for spec in specs:
        if spec.name not in found:
            raise ExportError(
                f"the artifact has no {kind} '{spec.name}'", expected=", ".join(sorted(found)) or f"at least one {kind}"
            )
        wanted, given = artifact_shape(spec), tuple(found[spec.name])
        if wanted != given:
            raise ExportError(
                f"{kind} '{spec.name}' of the artifact has shape {shape_text(given)}",
                expected=shape_text(wanted),
                todo="the file and its description don't belong together: export again",
            )


def artifact_shape(spec: TensorSpec) -> tuple[int | None, ...]:
    """``spec.shape`` in the artifact's own axis order."""
    if spec.layout != "NHWC":
        return spec.shape
    batch, channels, height, width = spec.shape
    return batch, height, width, channels
