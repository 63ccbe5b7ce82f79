"""How a picture becomes an input of the network: stated once, stored in the manifest, used for all data.

Standard library, and numpy where pictures are read; device-safe.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ulsam_deploy.device.arrays import Array
from ulsam_deploy.device.errors import UsageError
from ulsam_deploy.device.shapes import shape_text

if TYPE_CHECKING:  # the command line needs these options, and starts without importing numpy
    pass


def _one_of(*words: str) -> dict[str, str]:
    return {"pattern": "|".join(words), "words": " or ".join(words)}


@dataclass(frozen=True)
class Preprocessing:
    """From 8-bit pixels to float32: resize, colours, range, mean and std, layout, in this order.

    A pixel ``p`` of 0..255 becomes ``(low + p / 255 * (high - low) - mean) / std``, channel by channel in the order of
    ``channels``; ``range`` is ``(low, high)``; ``mean`` and ``std`` hold one number, or one for each channel.
    ``shorter_side``: a picture is scaled until its shorter side has so many pixels, then cropped at the centre;
    ``None``: it is stretched to the network's input. ``layout`` is the *network's* layout of one image; an artifact's
    own layout is in the specification of its input.
    """

    channels: str = field(default="RGB", metadata=_one_of("RGB", "BGR", "L"))
    range: tuple[float, ...] = (0.0, 1.0)
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    shorter_side: int | None = field(default=None, metadata={"minimum": 1})
    interpolation: str = field(default="bilinear", metadata=_one_of("bilinear", "bicubic", "nearest"))
    layout: str = field(default="NCHW", metadata=_one_of("NCHW", "NHWC"))

    def check(self) -> Preprocessing:
        """Return itself; raises :class:`UsageError` if lengths or numbers are invalid."""
        if len(self.range) != 2 or self.range[0] >= self.range[1]:
            raise UsageError(f"the range is {list(self.range)}", expected="the lowest and the highest value")
        for name, numbers in (("mean", self.mean), ("std", self.std)):
            if len(numbers) not in (1, len(self.channels)):
                raise UsageError(
                    f"{name} has {len(numbers)} numbers", expected=f"one, or one for each of {self.channels}"
                )
        if min(self.std) <= 0:
            raise UsageError(f"std is {list(self.std)}", expected="positive numbers")
        return self

    def size(self, shape: tuple[int, ...]) -> tuple[int, int]:
        """Height and width of a picture for one input of ``shape`` (without the batch).

        Raises :class:`UsageError` if the input is not a picture with these channels.
        """
        height, width, channels = _axes(shape, self.layout)
        if channels != len(self.channels):
            raise UsageError(
                f"the preprocessing gives {len(self.channels)} channels ({self.channels}), "
                f"and the input is {shape_text(shape)}",
                expected=f"an input of {len(self.channels)} channels in {self.layout}",
                todo="state channels and layout in the preprocessing file",
            )
        return height, width

    def normalized(self, pixels: Array) -> Array:
        """``pixels``, uint8 ``(N, H, W, C)`` in the order of ``channels``, as the network's input: float32."""
        import numpy as np

        low, high = self.range
        scaled = low + pixels.astype(np.float32) / np.float32(255) * np.float32(high - low)
        fed = (scaled - np.asarray(self.mean, np.float32)) / np.asarray(self.std, np.float32)
        return np.ascontiguousarray(fed.transpose(0, 3, 1, 2) if self.layout == "NCHW" else fed, dtype=np.float32)


def _axes(shape: tuple[int, ...], layout: str) -> tuple[int, int, int]:
    """Height, width and channels; 0 channels if ``shape`` is not a picture."""
    if len(shape) != 3:
        return 0, 0, 0
    return (shape[1], shape[2], shape[0]) if layout == "NCHW" else (shape[0], shape[1], shape[2])
