"""A job summary in GitHub's Markdown: a sentence, a table, and every failure in full. Standard library only."""

from __future__ import annotations

import re
from collections.abc import Sequence

from ulsam_deploy.device.bundle.kinds import MARKDOWN_MARK
from ulsam_deploy.device.checks import Check
from ulsam_deploy.device.findings import Verdict
from ulsam_deploy.device.printing import shown, shown_lines

#: GitHub refuses a step's summary of more than 1 MiB.
LIMIT = 1 << 20
_CUT = "\n\n*The rest is left out: this summary would be larger than 1 MiB.*\n"
_SIGNS = {Verdict.PASS: "✅", Verdict.FAIL: "❌", Verdict.INCONCLUSIVE: "⚠️", Verdict.UNVERIFIED: "⚪"}


def markdown(
    title: str, sentence: str, columns: Sequence[str], rows: Sequence[Sequence[str]], checks: Sequence[Check]
) -> str:
    """The summary, less than 1 MiB in UTF-8: ``sentence`` is the outcome, ``rows`` are those of the terminal."""
    parts = [f"{MARKDOWN_MARK}\n## {escape(title)}\n", escape(sentence) + "\n", table(columns, rows)]
    for check in checks:
        if check.verdict is not Verdict.PASS:
            head = (
                f"\n{_SIGNS[check.verdict]} **{escape(check.subject)}**, {escape(check.name)}: {check.verdict.value}\n"
            )
            parts += [head, _fenced(check.text)]
    passed = sum(check.verdict is Verdict.PASS for check in checks)
    parts.append(f"\n{passed} of {len(checks)} checks passed.\n")
    return _within(parts)


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table whose cells hold any text."""
    lines = [columns, ["---"] * len(columns), *([escape(cell) for cell in row] for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def escape(text: str) -> str:
    """``text`` as Markdown that shows it literally, on one line: without markup, links, mentions or table bars."""
    plain = shown(" ".join(text.split())).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    inert = (
        re.sub(r"([\\`*_{}\[\]#|~!])", r"\\\1", plain)
        .replace("@", "&#64;")
        .replace("://", ":&#47;&#47;")
        .replace("::", "&#58;:")
    )
    return re.sub(r"\b(www)\.", r"\1&#46;", inert, flags=re.IGNORECASE)  # a link even without a scheme


def _fenced(text: str) -> str:
    longest = max(map(len, re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}text\n{shown_lines(text)}\n{fence}\n" if text else ""


def _within(parts: Sequence[str]) -> str:
    """As many whole ``parts`` as fit."""
    room = LIMIT - len(_CUT.encode()) - 1
    kept: list[str] = []
    for part in parts:
        room -= len(part.encode()) + 1
        if room < 0:
            return "\n".join(kept) + _CUT
        kept.append(part)
    return "\n".join(kept)
