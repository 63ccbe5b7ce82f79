"""A look inside an artifact at one block: what its attention adds there, whatever happens behind it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ulsam_deploy.device.parity import Added, Inside

Array = np.ndarray[Any, Any]


def reference(seed: int, size: int = 12) -> Added:
    random = np.random.default_rng(seed)
    x = random.normal(1, 1, (1, 4, size, size))
    a = np.exp(random.normal(size=(1, 1, size, size)))
    added = x * a / a.sum()
    return Added(x + added, added, a / a.sum())


def inside_of(block: Added, *, share: float = 1.0, storage: str = "NCHW", steps: int = 0, noise: float = 0.0) -> Any:
    """All values of an artifact whose block adds ``share`` of the attention, and of its ablation without it."""
    x = block.result - block.added
    x = x * (1 + noise * np.random.default_rng(9).normal(size=x.shape))

    def stored(y: Array) -> Array:
        if steps:
            step = np.ptp(y) / steps
            y = np.round(y / step) * step
        return y.transpose(0, 2, 3, 1) if storage == "NHWC" else y

    def values(amount: float) -> dict[str, Array]:
        y = x + amount * block.added
        maps = 1 + amount * block.added / x
        later = 5 * np.tanh(y)
        again = stored(x)  # a view of the block's input, behind the maps
        return {"before": again, "maps": maps[:, :1], "again": again, "y": y, "y8": stored(y), "later": later}

    return values(share), values(0.0)


def read(**how: Any) -> tuple[float, float, float] | None:
    inside = Inside()
    for seed in range(5):
        block = reference(seed)
        inside.note(block, *inside_of(block, **how))
    return inside.reading()


@pytest.mark.parametrize("storage", ["NCHW", "NHWC"])
@pytest.mark.parametrize("share", [1.0, 0.4, 0.0])
def test_it_reads_how_much_of_the_attention_is_added(share: float, storage: str) -> None:
    found = read(share=share, storage=storage)
    assert found is not None
    assert found[0] == pytest.approx(share, abs=1e-9)
    assert found[1] <= share + 1e-9
    assert found[2] >= share - 1e-9


def test_what_the_next_product_reads_counts_and_not_what_is_made_first() -> None:
    """The block's result is right in float, and rounded back onto the steps of its input for the next product."""
    inside = Inside()
    for seed in range(3):
        x = np.random.default_rng(seed).integers(1, 100, (1, 4, 12, 12)).astype(float)
        block = Added(x * 1.002, x * 0.002, np.full((1, 1, 12, 12), 0.002))
        whole = {"maps": np.full((1, 1, 12, 12), 1.002), "y": block.result, "y8": np.round(block.result)}
        inside.note(block, whole, {"maps": np.ones((1, 1, 12, 12)), "y": x, "y8": x})
    assert inside.reading() == pytest.approx((0, 0, 0), abs=1e-9)


def test_errors_from_in_front_of_the_block_do_not_matter() -> None:
    found = read(noise=0.05)
    assert found is not None
    assert found[0] == pytest.approx(1.0, abs=0.02)


def test_float16_values_do_not_overflow() -> None:
    inside = Inside()
    for seed in range(3):
        block = reference(seed)
        large = Added(block.result * 300, block.added * 300, block.maps)
        halves = [{name: array.astype(np.float16) for name, array in found.items()} for found in inside_of(large)]
        inside.note(large, *halves)
    found = inside.reading()
    assert found is not None
    assert found[0] == pytest.approx(1, abs=0.02)


def test_maps_that_reach_nothing_are_dead_for_certain() -> None:
    inside = Inside()
    for seed in range(3):
        block = reference(seed)
        _, dead = inside_of(block)
        inside.note(block, dead, dead)
    assert inside.reading() == (0.0, 0.0, 0.0)


def test_nothing_is_said_where_the_result_is_found_nowhere_or_on_one_batch_only() -> None:
    block = reference(0)
    whole, ablation = inside_of(block)
    once = Inside()
    once.note(block, whole, ablation)
    assert once.reading() is None
    for values in (whole, ablation):
        del values["y"], values["y8"]
    hidden = Inside()
    hidden.note(block, whole, ablation)
    hidden.note(block, whole, ablation)
    assert hidden.reading() is None


def test_a_ablation_that_an_engine_sums_in_another_order_has_not_changed() -> None:
    inside = Inside()
    for seed in range(3):
        block = reference(seed)
        _, dead = inside_of(block)
        inside.note(block, {k: v * (1 + 1e-7) for k, v in dead.items()}, dead)
    assert inside.reading() == (0.0, 0.0, 0.0)
