"""ONNX models that are small and unfold are refused before they do, in words."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("onnx")

from ulsam_deploy.device.errors import ExportError
from ulsam_deploy.load import onnx as onnx_in

from ....hostile import graphs

#: What each is told; the time is that of a mistake, not of the work.
REFUSED = {
    "functions that call twice, 22 deep": "unfolds to more than",
    "functions that call twice, 40 deep": "unfolds to more than",
    "a function that calls itself": "calls itself",
    "an empty function": "has no operators",
    "Tile to 2^40": "a constant of",
    "Concat doubled 32 times": "a constant of",
    "Mul squared 40 times": "more than 64 bits",
    "Pow to 2^40": "a power of",
    "49,000 nodes of one name": "operators",
    "no outputs": "no outputs",
    "an output that is the input": "not the result of any operator",
    "an output twice": "names an output twice",
    "maps that double 36 times": "a tensor of",
    "external weights of 5 GiB": "GiB",
    "external weights of 20 GiB in 1": "more than 2 GiB",
}


@pytest.mark.timeout(60)
@pytest.mark.parametrize("name", REFUSED)
def test_it_is_counted_before_it_is_done(tmp_path: Path, name: str) -> None:
    graphs.write(graphs.GRAPHS[name], tmp_path)
    began = time.process_time()
    with pytest.raises(ExportError, match=REFUSED[name]):
        onnx_in.load(tmp_path / "model.onnx")
    assert time.process_time() - began < 15


@pytest.mark.parametrize("name", graphs.NODES)
def test_a_node_may_have_any_name(tmp_path: Path, name: str) -> None:
    graphs.write(lambda: graphs.named(name), tmp_path)
    assert onnx_in.load(tmp_path / "model.onnx").shapes == ((4,),)


def test_deep_scopes_are_left_out_of_paths(tmp_path: Path) -> None:
    graphs.write(lambda: graphs.scoped(5000), tmp_path)
    model: Any = onnx_in.load(tmp_path / "model.onnx").model
    assert max(name.count(".") for name, _ in model.named_modules()) < 40
