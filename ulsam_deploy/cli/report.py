"""``ulsam-deploy report``: bundles and result files on one offline page, side by side if there are several."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ulsam_deploy.cli.history import is_history, page_of
from ulsam_deploy.device.commands.answer import Answer, path_text, schema_field
from ulsam_deploy.device.commands.arguments import add_force
from ulsam_deploy.device.commands.reading import Parser
from ulsam_deploy.device.errors import UnavailableError, UsageError
from ulsam_deploy.device.findings import Verdict
from ulsam_deploy.device.invocation import extra

if TYPE_CHECKING:
    from ulsam_deploy.report.part import Part

HELP = "put bundles and result files side by side on one offline page, with trends"


@dataclass(frozen=True)
class Reported:
    """One file of a report."""

    file: str
    verdict: Verdict
    sentence: str


@dataclass(frozen=True)
class ReportDocument:
    """``report``: the page, its size in bytes, and its summary of each file."""

    path: str
    size: int
    files: tuple[Reported, ...]
    schema: str = schema_field("report", 1)


def add_words(parser: Parser) -> None:
    """Declare the options of this command."""
    words = parser.words
    words.add(
        "files",
        type=Path,
        nargs="+",
        metavar="FILE",
        help="bundles (folders or .zip) and result files of 'ulsam-deploy bench' (.json), oldest first; "
        "or one folder of builds, for the trend of every figure",
    )
    words.add(
        "-o", "--output", type=Path, default=Path("report.html"), metavar="FILE.html", help="default: report.html"
    )
    add_force(words)


def run(arguments: argparse.Namespace) -> Answer:
    """Write the page. Its verdicts are those in the files: nothing but their integrity is checked again."""
    from ulsam_deploy.device.bundle.kinds import PAGE
    from ulsam_deploy.device.bundle.output import Output
    from ulsam_deploy.device.commands.words import size
    from ulsam_deploy.report import page

    if lacking := page.lacking():
        raise UnavailableError(f"a report needs {lacking}", todo=extra("report"))
    from ulsam_deploy.report.comparison import comparison

    output = Output(arguments.output, PAGE, arguments.force)
    output.check()
    if is_history(arguments.files):
        text_of_page, verdict, words = page_of(arguments.files[0])
        output.write(text_of_page.encode())
        told = (Reported(arguments.files[0].name, verdict, words),)
        document = ReportDocument(path_text(output.path), len(text_of_page.encode()), told)
        return Answer(document, [words, "", f"Made:   {output.path}, one file that fetches nothing"])
    names = _names(arguments.files)
    parts = [_part(path, name) for path, name in zip(arguments.files, names)]
    held = comparison([(part.name, part.figures()) for part in parts]) if len(parts) > 1 else None
    title = parts[0].name if held is None else f"{len(parts)} files side by side"
    data = page.page(title, parts, held).encode()
    output.write(data)
    text = [
        *(f"{part.name}: {part.verdict.value}; {part.sentence}" for part in parts),
        "",
        f"Made:   {output.path}, {size(len(data))}, one file that fetches nothing",
        "Open it in any browser, or attach it to a release.",
    ]
    files = tuple(Reported(part.name, part.verdict, part.sentence) for part in parts)
    return Answer(ReportDocument(path_text(output.path), len(data), files), text)


def _names(paths: Sequence[Path]) -> list[str]:
    """The name of each file on the page: its file name, or its whole path if two have the same."""
    short = [path.resolve().name.removesuffix(".zip").removesuffix(".bundle") for path in paths]
    return [name if short.count(name) == 1 else str(path) for name, path in zip(short, paths)]


def _part(path: Path, name: str) -> Part:
    from ulsam_deploy.cli.compare_files import read_bytes
    from ulsam_deploy.device.bench.result import Result
    from ulsam_deploy.device.bundle import read_bundle
    from ulsam_deploy.report.subject import of_bundle
    from ulsam_deploy.report.timed import TimedPart

    if path.suffix == ".json" and path.is_file():
        return TimedPart(name, Result.from_json(read_bytes(path), path.name))
    if path.is_file() and path.suffix != ".zip":
        raise UsageError(
            f"'{path}' is neither a bundle nor a result file",
            expected="a bundle folder, a .zip made from one, or a .json of 'ulsam-deploy bench'",
        )
    bundle = read_bundle(path)
    bundle.verify_integrity()
    return of_bundle(bundle.manifest, bundle.root, name)
