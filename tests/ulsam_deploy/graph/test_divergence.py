"""The first diverging module: found by value, whatever the layout, the names and what was fused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ulsam_deploy.graph.divergence import Point, first_divergence

Array = np.ndarray[Any, Any]
NAMES = ("stem", "body.0", "body.1", "body.2", "head")


def chain(behind: dict[str, tuple[int, ...]] | None = None) -> list[Point]:
    rng = np.random.default_rng(0)
    shape = (1, 6, 5, 4)
    order = behind or {}
    return [
        Point(name, rng.normal(size=shape), 1e-7, order.get(name, (number - 1,) if number else ()))
        for number, name in enumerate(NAMES)
    ]


def values(points: list[Point], **changed: Array | None) -> dict[str, Array]:
    """The points' own values in float32 under names that mean nothing, but those in ``changed`` (by number)."""
    arrays = {f"t{number}": point.value.astype(np.float32) for number, point in enumerate(points)}
    arrays |= {name: array for name, array in changed.items() if array is not None}
    return {name: array for name, array in arrays.items() if changed.get(name, array) is not None}


def test_all_there() -> None:
    points = chain()
    assert first_divergence(points, values(points)).module == ""


@pytest.mark.parametrize("wrong", range(5))
def test_the_first_wrong_one_is_named_with_the_last_right_one(wrong: int) -> None:
    points = chain()
    bad = {f"t{n}": points[n].value * 1.01 for n in range(wrong, 5)}
    found = first_divergence(points, values(points, **bad))
    assert (found.module, found.after) == (NAMES[wrong], NAMES[wrong - 1] if wrong else "")
    assert found.error == pytest.approx(0.01, rel=1e-3)
    assert f"'{NAMES[wrong]}'" in found.sentence()


def test_channels_last_and_flattened_values_are_recognized() -> None:
    points = chain()
    arrays = {str(n): np.moveaxis(p.value, 1, -1).reshape(20, 6).astype(np.float32) for n, p in enumerate(points)}
    assert first_divergence(points, arrays).module == ""


def test_a_fused_module_is_not_a_fault_and_a_fault_is_named_by_what_it_is_fused_into() -> None:
    points = chain()
    assert first_divergence(points, values(points, t1=None)).module == ""
    bad = {f"t{n}": points[n].value * 1.01 for n in (2, 3, 4)}
    found = first_divergence(points, values(points, t1=None, **bad))
    assert (found.module, found.after) == ("body", "stem")


def test_a_place_that_spans_modules_is_not_named_by_what_holds_a_right_one() -> None:
    """Lost in ``body.1``, seen again in ``head``: neither the network nor ``body``, whose first module agrees."""
    points = chain()
    bad = {"t4": points[4].value * 1.01}
    found = first_divergence(points, values(points, t2=None, t3=None, **bad))
    assert (found.module, found.after) == ("body.1 .. head", "body.0")
    bad = {"t3": points[3].value * 1.01, "t4": points[4].value * 1.01}
    found = first_divergence(points, values(points, t2=None, **bad))
    assert (found.module, found.after) == ("body.1 .. body.2", "body.0")


def test_a_value_that_is_not_finite_is_a_wrong_one() -> None:
    points = chain()
    broken = np.full_like(points[2].value, np.nan)
    rest = {f"t{n}": points[n].value * 3 for n in (3, 4)}
    assert first_divergence(points, values(points, t2=broken, **rest)).module == "body.2"[:-1] + "1"


def test_a_branch_that_is_right_does_not_hide_the_other() -> None:
    points = chain({"body.1": (0,), "body.2": (1,), "head": (2, 3)})  # two branches from the stem, joined in the head
    bad = {"t1": points[1].value * 1.01, "t3": points[3].value * 1.01, "t4": points[4].value * 1.01}
    found = first_divergence(points, values(points, **bad))
    assert (found.module, found.after) == ("body.0", "stem")


@pytest.mark.long
def test_every_layer_of_a_real_network_is_found(made: Any) -> None:
    """The small network of the wings' tests, exported by us, against references with one layer changed."""
    import sys

    import torch

    from ulsam_deploy.graph import capture, module_points

    small = sys.modules[type(made("onnx", 1)).__module__].small_network
    images = np.random.default_rng(3).normal(size=(1, 3, 32, 32)).astype(np.float32)
    with made("onnx", 1).session() as session:
        inner = session.values({session.inputs[0].name: images})
    layers = [name for name, m in small().named_modules() if isinstance(m, (torch.nn.Conv2d, torch.nn.Linear))]
    assert len(layers) > 10
    for layer in ("", "0.0", "2.0", "4.subspaces.1.conv_dws", "5.2"):
        network = small()
        if layer:
            with torch.no_grad():
                network.get_submodule(layer).weight.mul_(1.5 if "subspaces" in layer else 1.01)
        points = module_points(capture(network, [(3, 32, 32)], 1), {session.inputs[0].name: images})
        found = first_divergence(points, inner)
        assert layer == found.module or layer.startswith(found.module + "."), (layer, found)
        assert bool(found.module) == bool(layer)
