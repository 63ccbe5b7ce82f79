"""The tables of the fault corpus, as Markdown."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from .judging import Judged
from .rules import RULES

BEGIN, END = "<!-- made by benchmarks/faults.py -->", "<!-- end -->"


def rules(judged: Sequence[Judged]) -> str:
    """Found, missed and false alarms of the check and of every other rule."""
    faults, sound = [one for one in judged if one.faulty], [one for one in judged if not one.faulty]
    networks = len({one.subject for one in judged})
    rows = [
        f"{len(faults)} faulty artifacts and {len(sound)} sound ones of {networks} networks:",
        "",
        "| rule | faults found | faults missed | false alarms | sound ones inconclusive |",
        "|---|---|---|---|---|",
    ]
    unsure = sum(one.verdict == "inconclusive" for one in sound)
    for rule, title in {"": "**this project's check**", **{rule: rule for rule in RULES}}.items():
        found = sum(one.right(rule) or one.verdict == "refused" for one in faults)
        alarms = sum(not one.right(rule) for one in sound) - (0 if rule else unsure)
        rows.append(f"| {title} | {found} | {len(faults) - found} | {alarms} | {0 if rule else unsure} |")
    return "\n".join(rows)


def summary(judged: Sequence[Judged]) -> str:
    """The table of :func:`rules`, and what the check got wrong."""
    faults, sound = [one for one in judged if one.faulty], [one for one in judged if not one.faulty]
    rows = [rules(judged)]
    placed = [one for one in faults if one.named is not None]
    wrong = [f"* {one.name} ({one.subject}, {one.target}): {_why(one)}" for one in judged if not one.right()]
    unnamed = [f"* {one.name} at `{one.place}` ({one.subject}): {one.said[-1]}" for one in placed if not one.named]
    rows += ["", places(faults)]
    largest = max((one.error for one in sound), default=0.0)
    smallest = min((one.error for one in faults if one.verdict == "fail"), default=0.0)
    rows.append(
        f"Largest error of a sound artifact: {largest:.2g} noise floors; smallest of a fault found: {smallest:.3g}."
    )
    for title, lines in (("Judged wrongly", wrong), ("Not named", unnamed)):
        rows += ["", f"{title}:", "", *lines] if lines else []
    return "\n".join(rows)


def places(faults: Sequence[Judged]) -> str:
    """How often the verdict names the block or layer where the fault is, another, or none."""
    asked = [one for one in faults if one.named is not None]
    other = sum(not one.named and any("Where: '" in said or "block '" in said for said in one.said) for one in asked)
    right, nowhere = sum(bool(one.named) for one in asked), sum(not one.place for one in faults)
    return (
        f"Of {len(asked)} faults found that have a place, a block or a layer, the verdict names the right one for "
        f"{right}, another for {other}, and none for {len(asked) - right - other}. {nowhere} have no place: they are "
        f"in all weights, in all blocks, or outside the network."
    )


def _why(one: Judged) -> str:
    reasons = f"; {one.said[0]}" if one.said else ""
    size = f" at {one.error:.2g} noise floors" if one.faulty else ""
    return f"{one.verdict}{size}{reasons}"


def kinds(judged: Sequence[Judged]) -> str:
    """One row a kind of fault: how many artifacts, how many each rule finds."""
    faults = [one for one in judged if one.faulty]
    counts = Counter(one.name for one in faults)
    rows = [f"| fault | artifacts | this check | place named | {' | '.join(RULES)} |", "|---" * (len(RULES) + 4) + "|"]
    for name, count in counts.items():
        same = [one for one in faults if one.name == name]
        found = [sum(one.right(rule) or one.verdict == "refused" for one in same) for rule in ("", *RULES)]
        named = [one.named for one in same if one.named is not None]
        place = f"{sum(named)} of {len(named)}" if named else "-"
        rows.append(f"| {name} | {count} | {found[0]} | {place} | {' | '.join(map(str, found[1:]))} |")
    return "\n".join(rows)


def page(text: str, made: str) -> str:
    """``text`` with ``made`` in place of what was between its two marks."""
    before, _, rest = text.partition(BEGIN)
    after = rest.partition(END)[2]
    return f"{before}{BEGIN}\n\n{made}\n\n{END}{after}"
