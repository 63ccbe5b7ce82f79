"""MobileNetV1 (Howard et al. 2017, arXiv 1704.04861) with ULSAM.

Keys: ``features.0.{0,1}`` for the stem, ``features.{i}.dw.{0,1}`` and ``features.{i}.pw.{0,1}`` for layer i,
``classifier.1``. At widths other than the paper's, channels are rounded to multiples of 8, as in V2.
"""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, nn

from .backbone import Family, conv_bn_relu


class DepthwiseSeparable(nn.Module):
    """Depthwise 3x3, then pointwise 1x1: ``[N, inputs, H, W] -> [N, outputs, H/stride, W/stride]``."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.dw = conv_bn_relu(inputs, inputs, stride=stride, groups=inputs, six=False)
        self.pw = conv_bn_relu(inputs, outputs, kernel=1, six=False)

    def forward(self, x: Tensor) -> Tensor:
        """Run the layer."""
        y: Tensor = self.pw(self.dw(x))
        return y


class MobileNetV1(Family):
    """13 depthwise-separable layers; ``features[i]`` is layer ``i``."""

    name: ClassVar[str] = "mobilenet_v1"
    dropout: ClassVar[float] = 0.0
    relu6: ClassVar[bool] = False
    layers: ClassVar[tuple[tuple[int, int], ...]] = (
        (64, 1),
        (128, 2),
        (128, 1),
        (256, 2),
        (256, 1),
        (512, 2),
        *[(512, 1)] * 5,
        (1024, 2),
        (1024, 1),
    )

    def layer(self, position: int, inputs: int, outputs: int, stride: int) -> nn.Module:  # noqa: ARG002
        """All layers have the same form."""
        return DepthwiseSeparable(inputs, outputs, stride)

    def head_channels(self, width: float) -> int:
        """The number of channels of the last layer."""
        return self.channels(width)[-1]

    def tail(self, inputs: int, outputs: int) -> list[nn.Module]:  # noqa: ARG002
        """Empty: the classifier follows the last layer."""
        return []

    def output_key(self, position: int) -> str:
        """The pointwise convolution."""
        return f"features.{position}.pw.0.weight"


NETWORK = MobileNetV1()
