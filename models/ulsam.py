"""SubSpace and ULSAM in the form of the public reference code, with the variants found in practice.

Keys and outputs are those of the code that the paper's authors published (ULSAM, WACV 2020, arXiv 2006.15102):
``subspaces.{i}.conv_dws|bn_dws|conv_point|bn_point.*``. The form is deliberately the naive one (chunk, view, expand,
one softmax per subspace), because users have this form; making it fast is the job of the toolchain.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ulsam_deploy.device.errors import UsageError
from ulsam_deploy.device.spelling import unknown

REFERENCE = "reference"
POOL_OF_INPUT = "pool-of-input"
SOFTMAX_OVER_CHANNEL = "softmax-over-channel"

#: Variants with the same keys. ``pool-of-input`` max-pools the input instead of the gate, so the depthwise branch is
#: unused; ``softmax-over-channel`` takes the softmax over a 1-channel axis, so that the output is always 2x.
VARIANTS = (REFERENCE, POOL_OF_INPUT, SOFTMAX_OVER_CHANNEL)


class SubSpace(nn.Module):
    """Attention over one subspace: ``[N, C, H, W] -> [N, C, H, W]``, any float dtype.

    ``x + softmax_HW(relu(bn(conv1x1(maxpool3x3(relu(bn(dwconv1x1(x)))))))) * x``: one map for all C channels. The ReLU
    comes before the softmax. Batch norms use momentum 0.9 as in the reference code.
    """

    def __init__(self, channels: int, variant: str = REFERENCE) -> None:
        super().__init__()
        self.variant = variant
        self.conv_dws = nn.Conv2d(channels, channels, kernel_size=1, groups=channels)
        self.bn_dws = nn.BatchNorm2d(channels, momentum=0.9)
        self.relu_dws = nn.ReLU()
        self.maxpool = nn.MaxPool2d(kernel_size=3, stride=1, padding=1)
        self.conv_point = nn.Conv2d(channels, 1, kernel_size=1)
        self.bn_point = nn.BatchNorm2d(1, momentum=0.9)
        self.relu_point = nn.ReLU()
        self.softmax = nn.Softmax(dim=1 if variant == SOFTMAX_OVER_CHANNEL else 2)

    def forward(self, x: Tensor) -> Tensor:
        """Attend to ``x``; the attention map of an H x W input sums to 1 over its H*W positions."""
        gate = self.relu_dws(self.bn_dws(self.conv_dws(x)))
        pooled = self.maxpool(x if self.variant == POOL_OF_INPUT else gate)
        score = self.relu_point(self.bn_point(self.conv_point(pooled)))
        n, one, h, w = score.shape
        attention: Tensor = self.softmax(score.view(n, one, -1)).view(n, one, h, w)
        return attention.expand(x.shape) * x + x


class ULSAM(nn.Module):
    """Ultra-lightweight subspace attention: ``subspaces`` equal groups of channels, each with its own map.

    ``[N, C, H, W] -> [N, C, H, W]``. Trainable parameters: ``5 C + 3 subspaces``. Raises :class:`UsageError` if
    ``subspaces`` does not divide ``channels`` or ``variant`` is not one of :data:`VARIANTS`.
    """

    def __init__(self, channels: int, subspaces: int = 4, variant: str = REFERENCE) -> None:
        super().__init__()
        if variant not in VARIANTS:
            raise unknown(f"unknown ULSAM variant '{variant}'", variant, VARIANTS)
        if subspaces < 1 or channels % subspaces:
            divisors = [g for g in (1, 2, 4, 8, 16) if channels % g == 0]
            raise UsageError(
                f"{subspaces} subspaces do not divide {channels} channels",
                expected=f"a divisor of {channels}, such as {', '.join(map(str, divisors))}",
            )
        self.channels, self.variant = channels, variant
        self.subspaces = nn.ModuleList(SubSpace(channels // subspaces, variant) for _ in range(subspaces))

    def forward(self, x: Tensor) -> Tensor:
        """Attend to each subspace of ``x`` and put them together again."""
        parts = torch.chunk(x, len(self.subspaces), dim=1)
        return torch.cat([attend(part) for attend, part in zip(self.subspaces, parts)], dim=1)


def variant_warning(state_dict: Mapping[str, Any]) -> str | None:
    """A warning if the weights look like ``pool-of-input``: every ``bn_dws`` is exactly as it was initialised.

    Keys do not reveal the variant. A depthwise branch that never received a gradient keeps weight 1 and bias 0 in its
    batch norm. As this is also true of an untrained network, this only warns and decides nothing.
    """
    weights = [value for key, value in state_dict.items() if key.endswith("bn_dws.weight")]
    biases = [value for key, value in state_dict.items() if key.endswith("bn_dws.bias")]
    trained = any(bool((value != 1).any()) for value in weights) or any(bool((value != 0).any()) for value in biases)
    if trained or not weights:
        return None
    return (
        f"the gate's batch norm (bn_dws) of all {len(weights)} subspaces is as initialised: either the network was "
        f"never trained, or its code pools the input and not the gate; if so, pass --ulsam-variant {POOL_OF_INPUT}"
    )
