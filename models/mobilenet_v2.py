"""MobileNetV2 (Sandler et al. 2018, arXiv 1801.04381) with ULSAM; backbone keys are torchvision's."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, nn

from .backbone import Family, conv_bn_relu, make_divisible


class InvertedResidual(nn.Module):
    """Expand, depthwise 3x3, project: ``[N, inputs, H, W] -> [N, outputs, H/stride, W/stride]``.

    Adds its input if stride and channels allow. With an expansion of 1, there is no expanding convolution.
    """

    def __init__(self, inputs: int, outputs: int, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = inputs * expansion
        self.residual = stride == 1 and inputs == outputs
        expand = [conv_bn_relu(inputs, hidden, kernel=1)] if expansion > 1 else []
        self.conv = nn.Sequential(
            *expand,
            conv_bn_relu(hidden, hidden, stride=stride, groups=hidden),
            nn.Conv2d(hidden, outputs, 1, bias=False),
            nn.BatchNorm2d(outputs),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Run the block."""
        y: Tensor = self.conv(x)
        return x + y if self.residual else y


class MobileNetV2(Family):
    """17 bottlenecks; ``features[i]`` is bottleneck ``i``, ``features[18]`` the last 1x1 convolution."""

    name: ClassVar[str] = "mobilenet_v2"
    dropout: ClassVar[float] = 0.2
    relu6: ClassVar[bool] = True
    layers: ClassVar[tuple[tuple[int, int], ...]] = tuple(
        (channels, stride if first else 1)
        for channels, repeats, stride in (
            (16, 1, 1),
            (24, 2, 2),
            (32, 3, 2),
            (64, 4, 2),
            (96, 3, 1),
            (160, 3, 2),
            (320, 1, 1),
        )
        for first in (True, *[False] * (repeats - 1))
    )

    def layer(self, position: int, inputs: int, outputs: int, stride: int) -> nn.Module:
        """Bottleneck ``position``; only the first does not expand."""
        return InvertedResidual(inputs, outputs, stride, expansion=1 if position == 1 else 6)

    def head_channels(self, width: float) -> int:
        """1280, or more for widths above 1."""
        return make_divisible(1280 * max(1.0, width))

    def tail(self, inputs: int, outputs: int) -> list[nn.Module]:
        """The last 1x1 convolution."""
        return [conv_bn_relu(inputs, outputs, kernel=1)]

    def output_key(self, position: int) -> str:
        """The projection."""
        return f"features.{position}.conv.{1 if position == 1 else 2}.weight"


NETWORK = MobileNetV2()
