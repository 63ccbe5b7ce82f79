"""Every network of the ULSAM paper's tables as a named configuration, with the paper's figures beside the built ones.

The figures are from the authors' slides and poster, stored in ``paper.json``. The paper starts from rounded published
baselines (569, 325, 149 and 300 M multiply-adds), subtracts the convolutions of the layers that it removes and adds
``2 m h w`` (and ``2 m`` parameters) for each ULSAM, so the figures of a real network never match the paper's exactly.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any


@dataclass(frozen=True)
class NamedConfiguration:
    """One row of a table.

    Attributes:
        config: The configuration for the network's ``build``, with 4 subspaces.
        printed_params_m: In millions, as printed in the paper.
        printed_macs_m: In millions, as printed in the paper.
        unexplained_macs_m: Printed for the same network in another of its tables, but not explained by any placement.
        params: Exact, for the built network.
        macs: Exact, for the built network at 224 x 224; one multiply-add counts once; convolutions and linear layers.
        accuracy: ``accuracy[data set][subspaces]`` is top-1 and, if given, top-5 in percent; subspaces ``none`` is the
            backbone.
        equivalent: Other positions that would give the same figures; the paper does not say which it used.
    """

    name: str
    network: str
    config: Mapping[str, Any]
    table: str
    equivalent: str
    printed_params_m: str
    printed_macs_m: str
    unexplained_macs_m: str | None
    params: int
    macs: int
    accuracy: Mapping[str, Mapping[str, tuple[float, ...]]]
    note: str


@cache
def named_configurations() -> tuple[NamedConfiguration, ...]:
    """Every row, baselines first, in the order of the tables."""
    text = files(__package__).joinpath("paper.json").read_text(encoding="utf-8")
    return tuple(_row(row) for row in json.loads(text)["rows"])


def _row(row: Mapping[str, Any]) -> NamedConfiguration:
    return NamedConfiguration(
        name=row["name"],
        network=row["network"],
        config={"width": row["width"], "insert": row["insert"], "substitute": row["substitute"], "subspaces": 4},
        table=row["table"],
        equivalent=row["equivalent"],
        printed_params_m=row["printed"]["params_m"],
        printed_macs_m=row["printed"]["macs_m"],
        unexplained_macs_m=row["unexplained_macs_m"],
        params=row["built"]["params"],
        macs=row["built"]["macs"],
        accuracy={
            data: {subspaces: tuple(values) for subspaces, values in per_subspaces.items()}
            for data, per_subspaces in row["accuracy"].items()
        },
        note=row["note"],
    )


def figures(row: NamedConfiguration) -> dict[str, str]:
    """A row's figures as they are printed: by column, the paper's beside those of the built network (224 x 224, g = 4).

    ``paper top-1`` is in percent on ImageNet with 4 subspaces (for a baseline: without ULSAM). If the paper gives
    nothing for ImageNet, it is on another data set, which is named; ``-`` if the paper gives nothing at all.
    """
    slip = f" (elsewhere {row.unexplained_macs_m} M)" if row.unexplained_macs_m else ""
    return {
        "paper params": f"{row.printed_params_m} M",
        "built params": f"{row.params:,}",
        "paper MACs": f"{row.printed_macs_m} M{slip}",
        "built MACs": f"{row.macs / 1e6:.3f} M",
        "paper top-1": _top_1(row),
    }


def _top_1(row: NamedConfiguration) -> str:
    key = str(row.config["subspaces"]) if row.config["insert"] or row.config["substitute"] else "none"
    for data in sorted(row.accuracy, key=lambda name: (name != "imagenet", name)):
        if key in row.accuracy[data]:
            top = f"{row.accuracy[data][key][0]:.2f} %"
            return top if data == "imagenet" else f"{top} ({data})"
    return "-"
