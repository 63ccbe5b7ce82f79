"""Writes ``report.html``: one offline page about a bundle, or about several bundles and result files side by side.

Everything on it is derived from the bundle. Jinja2 escapes every value, control characters are shown and not obeyed,
and the page's content security policy forbids fetching anything.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ulsam_deploy._version import __version__
from ulsam_deploy.device import printing
from ulsam_deploy.device.bundle import Manifest
from ulsam_deploy.device.bundle.kinds import GENERATOR
from ulsam_deploy.device.findings import Verdict
from ulsam_deploy.report import REPORT
from ulsam_deploy.report.part import Part
from ulsam_deploy.report.subject import of_bundle

NEEDS = ("jinja2", "matplotlib")
#: The maximum size of a page; if it would be larger, maps are omitted, those of the last subject first.
LIMIT = 3 << 20
_TEMPLATES = Path(__file__).parent / "templates"


def lacking() -> str:
    """The missing libraries that a report needs, as text; empty if it can be written."""
    return " and ".join(name for name in NEEDS if find_spec(name) is None)


def write(manifest: Manifest, folder: Path) -> str:
    """Write the report of the bundle in ``folder`` into it; an attachment's writer."""
    if lacking():
        return ""
    subject = of_bundle(manifest, folder, manifest.model.name)
    (folder / REPORT).write_text(page(manifest.model.name, [subject]), encoding="utf-8")
    return REPORT


def page(
    title: str,
    subjects: Sequence[Part],
    comparison: Mapping[str, object] | None = None,
    outcome: tuple[Verdict, str] | None = None,
) -> str:
    """The page, below :data:`LIMIT` bytes: if it is too large, maps are omitted, those of the last subject first.

    ``outcome``: the verdict and the sentence at the top; by default those of the subjects.
    """
    shown = list(subjects)
    comparison = {"title": "Side by side", **comparison} if comparison else None
    outcome = outcome or (_worst(shown), shown[0].sentence if len(shown) == 1 else _together(shown))
    text = _rendered(title, shown, comparison, outcome)
    for i in range(len(shown) - 1, -1, -1):
        if len(text.encode()) < LIMIT:
            break
        shown[i] = shown[i].without_maps()
        text = _rendered(title, shown, comparison, outcome)
    return text


def _rendered(
    title: str, subjects: Sequence[Part], comparison: Mapping[str, object] | None, outcome: tuple[Verdict, str]
) -> str:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"breakable": _breakable, "columns": _columns}
    text = environment.get_template("page.html.j2").render(
        title=title,
        subtitle=subjects[0].subtitle if len(subjects) == 1 else "",
        verdict=outcome[0].value,
        sentence=outcome[1],
        sections=_sections(subjects, comparison),
        subjects=[subject.context(i if comparison else None) for i, subject in enumerate(subjects)],
        comparison=comparison,
        version=__version__,
        generator=GENERATOR,
        css=Markup((_TEMPLATES / "page.css").read_text(encoding="utf-8")),
        script=Markup((_TEMPLATES / "viewer.js").read_text(encoding="utf-8")),
    )
    return "\n".join(map(printing.shown, text.split("\n")))  # names that turn the text of a page round, too


def _breakable(path: str) -> Any:
    """A module path in which a line may break after a dot."""
    from markupsafe import Markup, escape

    return Markup(".<wbr>").join(escape(part) for part in path.split("."))


def _columns(cards: int) -> int:
    """The number of cards in a row: rows as equal as possible, of at most three."""
    return -(-cards // -(-cards // 3)) if cards else 1


def _worst(subjects: Sequence[Part]) -> Verdict:
    order = (Verdict.FAIL, Verdict.INCONCLUSIVE, Verdict.UNVERIFIED)
    return next((v for v in order if any(s.verdict is v for s in subjects)), Verdict.PASS)


def _together(subjects: Sequence[Part]) -> str:
    """One sentence about the verdicts of several files."""
    counts = [(sum(part.verdict is verdict for part in subjects), verdict.value) for verdict in Verdict]
    return f"{len(subjects)} files side by side: " + ", ".join(f"{n} {word}" for n, word in counts if n) + "."


def _sections(subjects: Sequence[Part], comparison: Mapping[str, object] | None) -> list[tuple[str, str]]:
    if comparison:
        return [("side-by-side", str(comparison["title"]))] + [
            (f"s{i}", subject.name) for i, subject in enumerate(subjects)
        ]
    return subjects[0].sections()
