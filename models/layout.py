"""Translates the keys of other implementations of MobileNetV1 and V2 into ours.

Only layouts of code that computes the same function are included (same activations, batch norm epsilon 1e-5, symmetric
padding). Ports of TensorFlow's weights (timm, Hugging Face) are excluded on purpose: with epsilon 1e-3, ReLU6 or
padding "same", they would load without an error and give other logits.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import accumulate

#: The rules of one layout: a pattern for a whole key, and its replacement.
Layout = tuple[tuple[str, str], ...]

#: marvis/pytorch-mobilenet and its many copies: one flat ``Sequential`` called ``model``, then ``fc``.
V1_FLAT: Layout = (
    (r"model\.0\.([01])\.(\w+)", r"features.0.\1.\2"),
    (r"model\.(\d+)\.([01])\.(\w+)", r"features.\1.dw.\2.\3"),
    (r"model\.(\d+)\.3\.(\w+)", r"features.\1.pw.0.\2"),
    (r"model\.(\d+)\.4\.(\w+)", r"features.\1.pw.1.\2"),
    (r"model\.(\d+)\.(subspaces\..+)", r"features.\1.\2"),
    (r"fc\.(\w+)", r"classifier.1.\1"),
)

_STAGES = (1, 2, 2, 6, 2)
_UNITS = tuple(
    (f"stage{stage}.unit{unit}", before + unit)
    for stage, (size, before) in enumerate(zip(_STAGES, (0, *accumulate(_STAGES))), start=1)
    for unit in range(1, size + 1)
)

#: osmr/pytorchcv: ``features.stage{s}.unit{u}.dw_conv|pw_conv``, then ``output``.
V1_STAGES: Layout = (
    (r"features\.init_block\.conv\.(\w+)", r"features.0.0.\1"),
    (r"features\.init_block\.bn\.(\w+)", r"features.0.1.\1"),
    *[(rf"features\.{re.escape(u)}\.(dw|pw)_conv\.conv\.(\w+)", rf"features.{p}.\1.0.\2") for u, p in _UNITS],
    *[(rf"features\.{re.escape(u)}\.(dw|pw)_conv\.bn\.(\w+)", rf"features.{p}.\1.1.\2") for u, p in _UNITS],
    *[(rf"features\.{re.escape(u)}\.(subspaces\..+)", rf"features.{p}.\1") for u, p in _UNITS],
    (r"output\.(\w+)", r"classifier.1.\1"),
)

#: tonylins/pytorch-mobilenet-v2 and d-li14/mobilenetv2.pytorch: bottlenecks flat, the latter's last layer ``conv``.
V2_FLAT: Layout = (
    (r"features\.(0|18)\.([01])\.(\w+)", r"features.\1.\2.\3"),
    (r"conv\.([01])\.(\w+)", r"features.18.\1.\2"),
    (r"features\.1\.conv\.([01])\.(\w+)", r"features.1.conv.0.\1.\2"),
    (r"features\.1\.conv\.3\.(\w+)", r"features.1.conv.1.\1"),
    (r"features\.1\.conv\.4\.(\w+)", r"features.1.conv.2.\1"),
    (r"features\.(\d+)\.conv\.([01])\.(\w+)", r"features.\1.conv.0.\2.\3"),
    (r"features\.(\d+)\.conv\.3\.(\w+)", r"features.\1.conv.1.0.\2"),
    (r"features\.(\d+)\.conv\.4\.(\w+)", r"features.\1.conv.1.1.\2"),
    (r"features\.(\d+)\.conv\.6\.(\w+)", r"features.\1.conv.2.\2"),
    (r"features\.(\d+)\.conv\.7\.(\w+)", r"features.\1.conv.3.\2"),
    (r"features\.(\d+)\.(subspaces\..+)", r"features.\1.\2"),
    (r"classifier\.(?:1\.)?(weight|bias)", r"classifier.1.\1"),
)

#: The layouts of each network, by its name.
LAYOUTS: dict[str, tuple[Layout, ...]] = {"mobilenet_v1": (V1_FLAT, V1_STAGES), "mobilenet_v2": (V2_FLAT,)}


def renamed(network: str, keys: Iterable[str]) -> dict[str, str]:
    """Our name for every key, if one known layout of ``network`` matches all of them; otherwise ``{}``.

    ULSAM inserted under our own keys (``attention.*``) may be combined with any layout.
    """
    names = list(keys)
    for layout in LAYOUTS[network]:
        ours = [_rename(key, (*layout, (r"(attention\..+)", r"\1"))) for key in names]
        found = [key for key in ours if key is not None]
        if len(found) == len(set(found)) == len(names) > 0:
            return dict(zip(names, found))
    return {}


def _rename(key: str, layout: Layout) -> str | None:
    for pattern, ours in layout:
        match = re.fullmatch(pattern, key)
        if match:
            return match.expand(ours)
    return None
