"""The common part of MobileNetV1 and V2: the network with ULSAM, its configuration, and how keys reveal both.

A *position* is the number of a layer as the paper counts them: 1 for the first layer after the stem. ULSAM inserted
after position 9 has the keys ``attention.9.subspaces...``; ULSAM that substitutes layer 9 has the keys
``features.9.subspaces...``. All other keys are the backbone's own, so weights trained without ULSAM fit.
"""

from __future__ import annotations

import abc
import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from operator import index
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ulsam_deploy.device.errors import UsageError
from ulsam_deploy.device.spelling import unknown
from ulsam_deploy.graph.interfaces import Network

from .layout import renamed
from .paper import figures, named_configurations
from .ulsam import REFERENCE, ULSAM, variant_warning

_BLOCK = re.compile(r"(attention|features)\.(\d{1,3})\.subspaces\.(\d{1,5})\.")

#: Widths go up to 16 in steps of 1/10000; of several that build the same network, the one with the fewest digits is
#: reported. No network falls between two steps: all channels divide 3840, so the widths at which some channel changes
#: are at least 4/34560 apart.
_WIDTH_UNIT, _WIDTH_LIMIT = 10_000, 16
_ROUNDNESS = (10_000, 2_500, 1_000, 500, 100, 10, 1)


@dataclass(frozen=True)
class Config:
    """Everything that determines a network's shape; ``insert`` and ``substitute`` are sorted positions."""

    width: float = 1.0
    classes: int = 1000
    in_channels: int = 3
    insert: tuple[int, ...] = ()
    substitute: tuple[int, ...] = ()
    subspaces: int = 4
    variant: str = REFERENCE

    @classmethod
    def read(cls, config: Mapping[str, object]) -> Config:
        """Check a mapping (such as one from JSON) and fill in defaults; raises :class:`UsageError`."""
        names = [field.name for field in fields(cls)]
        surplus = sorted(set(config) - set(names))
        if surplus:
            raise unknown(f"unknown network option '{surplus[0]}'", surplus[0], names)
        full = {**Config().as_mapping(), **config}
        try:
            made = cls(
                width=float(full["width"]),
                classes=index(full["classes"]),
                in_channels=index(full["in_channels"]),
                insert=tuple(sorted(set(map(index, full["insert"])))),
                substitute=tuple(sorted(set(map(index, full["substitute"])))),
                subspaces=index(full["subspaces"]),
                variant=str(full["variant"]),
            )
        except (TypeError, ValueError) as error:
            raise UsageError(
                f"a network option has the wrong type: {error}", expected="numbers, and lists of numbers for positions"
            ) from error
        for name in ("classes", "in_channels", "subspaces"):
            if getattr(made, name) < 1:
                raise UsageError(f"{name} is {getattr(made, name)}", expected="1 or more")
        if not 0 < made.width <= _WIDTH_LIMIT:
            raise UsageError(f"width is {made.width:g}", expected=f"above 0, at most {_WIDTH_LIMIT}")
        return made

    def as_mapping(self) -> dict[str, Any]:
        """The configuration as JSON-serializable values (lists for positions)."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}


def make_divisible(value: float, divisor: int = 8) -> int:
    """Round ``value`` channels to a multiple of ``divisor``, losing no more than a tenth (torchvision's rule)."""
    rounded = max(divisor, int(value + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * value else rounded


def conv_bn_relu(
    inputs: int, outputs: int, kernel: int = 3, stride: int = 1, groups: int = 1, *, six: bool = True
) -> nn.Sequential:
    """Convolution without bias, batch norm, ReLU6 (or ReLU): keys ``0`` and ``1``."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, (kernel - 1) // 2, groups=groups, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU6(inplace=True) if six else nn.ReLU(inplace=True),
    )


class AttentionNet(nn.Module):
    """Stem, numbered layers, classifier, and ULSAM after some layers: ``[N, C, H, W] -> [N, classes]`` logits.

    ``features[i]`` is layer ``i``; ``attention[str(i)]`` runs after it.
    """

    def __init__(
        self, features: Sequence[nn.Module], attention: Mapping[int, ULSAM], channels: int, classes: int, dropout: float
    ) -> None:
        super().__init__()
        self.features = nn.Sequential(*features)
        self.attention = nn.ModuleDict({str(position): block for position, block in attention.items()})
        self.classifier = nn.Sequential(nn.Dropout(dropout), nn.Linear(channels, classes))

    def forward(self, x: Tensor) -> Tensor:
        """Logits of a batch of images, float, ``[N, in_channels, H, W]``."""
        for position, layer in enumerate(self.features):
            x = layer(x)
            if str(position) in self.attention:
                x = self.attention[str(position)](x)
        x = nn.functional.adaptive_avg_pool2d(x, (1, 1))
        logits: Tensor = self.classifier(torch.flatten(x, 1))
        return logits

    def initialise(self) -> None:
        """Initialise the backbone as torchvision does; ULSAM keeps PyTorch's defaults, as its reference code does."""
        for name, module in self.named_modules():
            if ".subspaces." in name:
                continue
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out")
            elif isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, 0.0, 0.01)
                nn.init.zeros_(module.bias)


class Family(Network):
    """A backbone with numbered layers in which ULSAM may be inserted or substituted.

    ``layers`` gives, for positions 1, 2, ..., the output channels at width 1 and the stride.
    """

    stem: ClassVar[int] = 32
    layers: ClassVar[tuple[tuple[int, int], ...]]
    dropout: ClassVar[float]
    relu6: ClassVar[bool]

    @abc.abstractmethod
    def layer(self, position: int, inputs: int, outputs: int, stride: int) -> nn.Module:
        """Layer ``position`` of the backbone."""

    @abc.abstractmethod
    def head_channels(self, width: float) -> int:
        """The number of channels of the classifier's input."""

    @abc.abstractmethod
    def tail(self, inputs: int, outputs: int) -> list[nn.Module]:
        """The modules between the last layer and the classifier."""

    @abc.abstractmethod
    def output_key(self, position: int) -> str:
        """The key of the convolution whose first dimension is the output channels of layer ``position``."""

    @property
    def positions(self) -> range:
        """Every position: ULSAM may be inserted after any of them."""
        return range(1, len(self.layers) + 1)

    @property
    def substitutable(self) -> tuple[int, ...]:
        """Positions of the stride-1 layers that keep the number of channels (at width 1, so at every width)."""
        before = (self.stem, *(outputs for outputs, _ in self.layers))
        return tuple(p for p in self.positions if self.layers[p - 1] == (before[p - 1], 1))

    def channels(self, width: float) -> tuple[int, ...]:
        """Output channels of the stem and of every layer."""
        return tuple(make_divisible(base * width) for base in (self.stem, *(outputs for outputs, _ in self.layers)))

    def blocks(self, config: Mapping[str, object]) -> int:
        """One ULSAM for each position, inserted or substituted."""
        read = Config.read(config)
        return len(read.insert) + len(read.substitute)

    def backbone(self, config: Mapping[str, object]) -> Mapping[str, Any]:
        """The same width and classes, no ULSAM inserted and nothing substituted."""
        return Config.read({**config, "insert": (), "substitute": ()}).as_mapping()

    def input_shape(self, config: Mapping[str, object]) -> tuple[int, int, int]:
        """ImageNet's: 224 x 224."""
        return (Config.read(config).in_channels, 224, 224)

    def named(self) -> dict[str, Mapping[str, Any]]:
        """The paper's configurations of this network; see :mod:`.paper`."""
        rows = (row for row in named_configurations() if row.network == self.name)
        return {row.name: Config.read(row.config).as_mapping() for row in rows}

    def figures(self) -> dict[str, dict[str, str]]:
        """The paper's figures beside the built network's; see :func:`.paper.figures`."""
        return {row.name: figures(row) for row in named_configurations() if row.network == self.name}

    def rename(self, keys: Iterable[str]) -> dict[str, str]:
        """See :mod:`.layout`."""
        return renamed(self.name, keys)

    def warnings(self, state_dict: Mapping[str, object]) -> tuple[str, ...]:
        """A warning if the weights look like the variant that pools its input; see :func:`.ulsam.variant_warning`."""
        warning = variant_warning(state_dict)
        return (warning,) if warning else ()

    def build(self, config: Mapping[str, object]) -> AttentionNet:
        """Build a newly initialised network in ``eval`` mode; raises :class:`UsageError` for an impossible position."""
        network = self._assemble(Config.read(config))
        network.initialise()
        return network.eval()

    def _assemble(self, made: Config) -> AttentionNet:
        self._check_positions("insert ULSAM after", made.insert, tuple(self.positions))
        self._check_positions("substitute ULSAM for", made.substitute, self.substitutable)
        channels = self.channels(made.width)
        features: list[nn.Module] = [conv_bn_relu(made.in_channels, channels[0], stride=2, six=self.relu6)]
        for position, (_, stride) in enumerate(self.layers, start=1):
            inputs, outputs = channels[position - 1 : position + 1]
            if position in made.substitute:
                features.append(ULSAM(outputs, made.subspaces, made.variant))
            else:
                features.append(self.layer(position, inputs, outputs, stride))
        head = self.head_channels(made.width)
        attention = {p: ULSAM(channels[p], made.subspaces, made.variant) for p in made.insert}
        return AttentionNet([*features, *self.tail(channels[-1], head)], attention, head, made.classes, self.dropout)

    def _check_positions(self, what: str, wanted: tuple[int, ...], possible: tuple[int, ...]) -> None:
        wrong = [position for position in wanted if position not in possible]
        if wrong:
            raise UsageError(
                f"cannot {what} layer {wrong[0]} of {self.name}",
                expected=f"one of {', '.join(map(str, possible))}",
                todo="layers are numbered from 1 after the stem; a substituted one has stride 1 and equal channels",
            )

    def recognize(self, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Any] | None:
        """Propose a configuration from a few keys, and keep it only if it has exactly these keys and shapes.

        ``num_batches_tracked`` may be missing. Keys do not reveal the ULSAM variant: it is ``reference`` here.
        """
        proposal = self._propose(shapes)
        if proposal is None:
            return None
        try:
            with torch.device("meta"):
                built = self._assemble(Config.read(proposal.as_mapping())).state_dict()
        except (UsageError, RuntimeError):  # RuntimeError: sizes so large that torch refuses them even on "meta"
            return None
        wanted = {key: tuple(value.shape) for key, value in built.items()}
        given = {key: tuple(shape) for key, shape in shapes.items()}
        lacking = {key: () for key in wanted.keys() - given.keys() if key.endswith(".num_batches_tracked")}
        return proposal.as_mapping() if wanted == {**given, **lacking} else None

    def resemble(self, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Any] | None:
        """The configuration that :meth:`recognize` would propose, if it can be built at all."""
        proposal = self._propose(shapes)
        try:
            if proposal is not None:
                with torch.device("meta"):
                    self._assemble(proposal)
        except UsageError:
            return None
        return proposal.as_mapping() if proposal is not None else None

    def _propose(self, shapes: Mapping[str, tuple[int, ...]]) -> Config | None:
        stem, head = shapes.get("features.0.0.weight", ()), shapes.get("classifier.1.weight", ())
        if len(stem) != 4 or len(head) != 2:
            return None
        width = self._width(shapes)
        blocks: dict[tuple[str, int], set[int]] = {}
        for found in filter(None, map(_BLOCK.match, shapes)):
            blocks.setdefault((found[1], int(found[2])), set()).add(int(found[3]))
        counts = {len(subspaces) for subspaces in blocks.values()} or {Config.subspaces}
        if width is None or len(counts) > 1:
            return None
        return Config(
            width=width,
            classes=head[0],
            in_channels=stem[1],
            insert=tuple(sorted(position for kind, position in blocks if kind == "attention")),
            substitute=tuple(sorted(position for kind, position in blocks if kind == "features")),
            subspaces=counts.pop(),
        )

    def _width(self, shapes: Mapping[str, tuple[int, ...]]) -> float | None:
        """The width with the fewest digits that gives these output channels, if any; several can give the same."""
        kept = [p for p in self.positions if p not in self.substitutable]
        keys = ["features.0.0.weight", *map(self.output_key, kept)]
        seen = (*((*shapes.get(key, ()), 0)[0] for key in keys), shapes["classifier.1.weight"][1])

        def channels(unit: int) -> tuple[int, ...]:
            width = unit / _WIDTH_UNIT
            every = self.channels(width)
            return (every[0], *(every[p] for p in kept), self.head_channels(width))

        # Channels never decrease as the width grows, so widths with equal channels form one interval.
        units = range(1, _WIDTH_LIMIT * _WIDTH_UNIT + 1)
        first, last = bisect_left(units, seen, key=channels) + 1, bisect_right(units, seen, key=channels)
        for step in _ROUNDNESS:
            rounded = -(-first // step) * step
            if rounded <= last:
                return rounded / _WIDTH_UNIT
        return None
