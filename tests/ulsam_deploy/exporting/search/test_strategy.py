"""The search on names, against networks whose truth is known: it finds what has to be kept, and no more."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from ulsam_deploy.exporting.search.strategy import NetworkPart, parts_of, smallest_keep

MODULES = {f"features.{i}.conv.{j}": 100 + 10 * i + j for i in range(10) for j in range(3)} | {"classifier": 7}


def covered(paths: tuple[str, ...]) -> set[str]:
    return {module for module in MODULES if any(f"{module}.".startswith(f"{path}.") for path in paths)}


def test_parts_are_as_coarse_as_gives_enough() -> None:
    parts = parts_of(MODULES)
    assert [part.path for part in parts] == [*(f"features.{i}" for i in range(10)), "classifier"]
    assert parts[3].macs == sum(MODULES[f"features.3.conv.{j}"] for j in range(3))
    assert [part.path for part in parts_of({"0.0": 1, "2.0": 1, "3": 2})] == ["0", "2", "3"]
    assert [part.path for part in parts_of({f"a.b.{i}.c": 1 for i in range(9)})] == [f"a.b.{i}" for i in range(9)]
    assert parts_of({}) == ()


@given(st.sets(st.sampled_from(sorted(MODULES)), max_size=6), st.randoms(use_true_random=False))
def test_exactly_the_guilty_modules_are_kept_in_whatever_order_they_are_suspected(
    guilty: set[str], random: Any
) -> None:
    """A damage that says nothing costs trials, never the answer."""
    parts = parts_of(MODULES)
    damage = {part.path: random.random() for part in parts}
    asked: list[tuple[str, ...]] = []

    def holds(paths: tuple[str, ...]) -> bool:
        asked.append(paths)
        return guilty <= covered(paths)

    found = smallest_keep(parts, damage, holds)
    assert found is not None
    # The search keeps one module at least: where nothing has to be kept, nobody searches.
    assert covered(found) == guilty or (not guilty and len(covered(found)) == 1)
    assert len(asked) <= 5 + 11 + len(MODULES)


def test_a_good_order_saves_most_trials() -> None:
    parts = parts_of(MODULES)
    guilty = {"features.4.conv.1"}
    asked: list[tuple[str, ...]] = []

    def holds(paths: tuple[str, ...]) -> bool:
        asked.append(paths)
        return guilty <= covered(paths)

    damage = {part.path: float(part.path == "features.4") for part in parts}
    assert smallest_keep(parts, damage, holds) == ("features.4.conv.1",)
    assert len(asked) <= 9


def test_what_nothing_saves_is_none() -> None:
    parts = parts_of(MODULES)
    assert smallest_keep(parts, {part.path: 0.0 for part in parts}, lambda _: False) is None
    assert smallest_keep((), {}, lambda _: True) is None


def test_without_monotony_what_comes_back_was_seen_to_hold() -> None:
    """Keeping more may be worse in a real engine; the answer is still one of the choices that were tried."""
    parts = parts_of(MODULES)
    held = set()

    def holds(paths: tuple[str, ...]) -> bool:
        good = "features.2" in " ".join(paths) and len(covered(paths)) % 5 != 0
        if good:
            held.add(paths)
        return good

    found = smallest_keep(parts, {part.path: float(len(part.path)) for part in parts}, holds)
    assert found is None or found in held


def test_one_spelling_for_one_choice() -> None:
    part = NetworkPart("a", {"a.0": 1, "a.1": 2})
    assert smallest_keep((part, NetworkPart("b", {"b": 1})), {"a": 1.0, "b": 0.0}, lambda kept: "a" in kept) == ("a",)
