"""The search itself, on names alone: the fewest modules to keep in floating point so that the rest may be int8.

Standard library only; the caller makes the artifact of each choice and judges it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

__all__ = ["NetworkPart", "parts_of", "smallest_keep"]

#: A network is first searched in about this many parts, and then module by module inside those that must be kept.
ENOUGH = 8


@dataclass(frozen=True)
class NetworkPart:
    """Modules that are kept together: their common path, and the MACs of each module by its path."""

    path: str
    modules: Mapping[str, int]

    @property
    def macs(self) -> int:
        """The MACs of all its modules."""
        return sum(self.modules.values())


def parts_of(modules: Mapping[str, int]) -> tuple[NetworkPart, ...]:
    """Group ``modules`` (MACs by path, in order) by the shortest common path that gives :data:`ENOUGH` parts.

    If no length does, by the shortest that gives the most parts.
    """
    longest = max((path.count(".") + 1 for path in modules), default=0)
    best: dict[str, dict[str, int]] = {}
    for length in range(1, longest + 1):
        found: dict[str, dict[str, int]] = {}
        for path, macs in modules.items():
            found.setdefault(".".join(path.split(".")[:length]), {})[path] = macs
        if len(found) > len(best):
            best = found
        if len(best) >= ENOUGH:
            break
    return tuple(NetworkPart(path, inside) for path, inside in best.items())


def smallest_keep(
    parts: Sequence[NetworkPart], damage: Mapping[str, float], holds: Callable[[tuple[str, ...]], bool]
) -> tuple[str, ...] | None:
    """Find the fewest paths to keep in floating point.

    First, find by bisection the shortest prefix of the parts, sorted from the most harmful, that is sufficient. Then
    drop each of its parts, the costliest first, if the rest is still sufficient; then each module of the remaining
    parts. The result was itself seen to be sufficient, and without any single part or module it would not be.

    Args:
        parts: The parts of the network.
        damage: By part, how much harm it does alone in int8.
        holds: Whether keeping these paths is sufficient; may be called again for the same choice.

    Returns:
        The paths to keep, in the order of ``parts``; ``None`` if not even keeping all of them is sufficient.
    """
    order = {part.path: number for number, part in enumerate(parts)}
    ranked = sorted(parts, key=lambda part: (-damage[part.path], part.macs, order[part.path]))
    kept = _beginning(ranked, parts, holds)
    if kept is None:
        return None
    for part in sorted(kept, key=lambda part: (-part.macs, order[part.path])):
        fewer = [other for other in kept if other is not part]
        if holds(_paths(parts, _whole(fewer))):
            kept = fewer
    modules = _whole(kept)
    for part in kept:
        for path in sorted(part.modules, key=lambda path: -part.modules[path]):
            without = [other for other in modules[part.path] if other != path]
            if without and holds(_paths(parts, {**modules, part.path: without})):
                modules[part.path] = without
    return _paths(parts, modules)


def _beginning(
    ranked: Sequence[NetworkPart], parts: Sequence[NetworkPart], holds: Callable[[tuple[str, ...]], bool]
) -> list[NetworkPart] | None:
    low, high = 1, len(ranked)
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(_paths(parts, _whole(ranked[:middle]))) else (middle + 1, high)
    chosen = list(ranked[:high])
    return chosen if chosen and holds(_paths(parts, _whole(chosen))) else None


def _whole(parts: Sequence[NetworkPart]) -> dict[str, list[str]]:
    return {part.path: list(part.modules) for part in parts}


def _paths(parts: Sequence[NetworkPart], kept: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
    """A part's own path if all of its modules are kept, otherwise theirs, so that a choice has only one form."""
    found: list[str] = []
    for part in parts:
        modules = kept.get(part.path, ())
        found += [part.path] if len(modules) == len(part.modules) else [p for p in part.modules if p in modules]
    return tuple(found)
