"""The data of a report's attention viewer as compact JSON: probes as images, maps and differences as bytes."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ulsam_deploy.device.arrays import Array
from ulsam_deploy.device.maps import Maps
from ulsam_deploy.device.parity import Golden

#: Longest side of a probe's picture in pixels.
SIDE = 112


def viewer_data(maps: Maps, golden: Golden) -> dict[str, Any] | None:
    """The viewer's data; ``None`` if there is nothing to show, because there are no blocks or no image inputs."""
    picture = next((array for array in golden.inputs.values() if array.ndim == 4), None)
    if picture is None or not maps.shapes:
        return None
    rows = [golden.probes.index(probe) for probe in maps.probes]
    blocks = list(maps.shapes)
    return {
        "probes": list(maps.probes),
        "blocks": blocks,
        "sizes": [list(maps.shapes[block]) for block in blocks],
        "heat": _colours("viridis"),
        "change": _colours("RdBu_r"),
        "images": [_image(picture[row]) for row in rows],
        "reference": [_levels(maps.reference[block]) for block in blocks],
        "engines": [
            {
                "label": label,
                "maps": [_levels(found[block]) if block in found else None for block in blocks],
                "differences": [
                    _levels(found[block] - maps.reference[block], signed=True) if block in found else None
                    for block in blocks
                ],
            }
            for label, found in sorted(maps.engines.items())
        ],
    }


def subspaces(maps: Maps) -> int:
    """The largest number of subspaces of any block."""
    return max((shape[0] for shape in maps.shapes.values()), default=0)


def _levels(maps: Array, *, signed: bool = False) -> dict[str, Any]:
    """``maps`` (P, g, h, w) with one byte for each number; each map is scaled by its largest (absolute) number."""
    _, groups, height, width = maps.shape
    scales = np.abs(maps).max((2, 3)).astype(np.float64)
    shares = maps / np.where(scales > 0, scales, 1)[:, :, None, None]
    levels = 127.5 + 127.5 * shares if signed else 255 * shares
    return {
        "subspaces": groups,
        "height": height,
        "width": width,
        "scales": [[float(f"{scale:.4g}") for scale in row] for row in scales],
        "cells": _text(levels),
    }


def _image(probe: Array) -> dict[str, Any]:
    """One probe (C, H, W) as 8-bit RGB, stretched to the range between its 1 % and 99 % quantiles."""
    factor = -(-max(probe.shape[1:]) // SIDE)
    height, width = (size // factor * factor for size in probe.shape[1:])
    small = probe[:, :height, :width].astype(np.float64)
    small = small.reshape(len(probe), height // factor, factor, width // factor, factor).mean((2, 4))
    if len(small) != 3:
        small = np.repeat(small.mean(0, keepdims=True), 3, 0)
    low, high = np.percentile(small, (1, 99))
    levels = 255 * (small - low) / (high - low if high > low else 1)
    return {"height": small.shape[1], "width": small.shape[2], "pixels": _text(np.moveaxis(levels, 0, -1))}


def _colours(name: str) -> str:
    """A colour map of matplotlib as 256 RGB triples."""
    from matplotlib import colormaps

    return _text(colormaps[name](np.arange(256))[:, :3] * 255)


def _text(levels: Array) -> str:
    return base64.b64encode(np.clip(np.rint(levels), 0, 255).astype(np.uint8).tobytes()).decode()


def blind(maps: Maps) -> Sequence[tuple[str, str]]:
    """Artifacts without maps, each with the reason."""
    found: Mapping[str, str] = maps.missing
    return sorted(found.items())
