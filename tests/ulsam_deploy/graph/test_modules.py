"""A module is called by the path that its user knows, whatever capture puts around the network."""

from __future__ import annotations

import pytest
from torch.fx import Graph

from ulsam_deploy.graph.modules import common_module, is_within, module_of, own_path


@pytest.mark.parametrize(
    ("path", "own"),
    [
        ("", ""),
        ("model", ""),
        ("model.features.3", "features.3"),
        ("model.model", "model"),
        ("model.modelled", "modelled"),
        ("modelled.x", "modelled.x"),  # no wrapper, only a name that begins like it
        ("features.3", "features.3"),
    ],
)
def test_the_wrapper_is_left_out_and_nothing_else(path: str, own: str) -> None:
    assert own_path(path) == own


def test_a_node_belongs_to_the_innermost_module() -> None:
    graph = Graph()
    one, other, silent = (graph.placeholder(name) for name in ("one", "other", "silent"))
    one.meta["nn_module_stack"] = {"a": ("", None), "b": ("model", None), "c": ("model.features", None)}
    other.meta["nn_module_stack"] = {"a": ("", None), "b": ("model", None), "c": ("model.head", None)}
    assert (module_of(one), module_of(other), module_of(silent)) == ("features", "head", None)
    assert common_module([one, other]) == "model"
    assert common_module([one, silent]) == ""


def test_a_module_is_inside_whole_names() -> None:
    assert is_within("features.3", ["head", "features"])
    assert is_within("features", ["features"])
    assert not is_within("features_more", ["features"])
