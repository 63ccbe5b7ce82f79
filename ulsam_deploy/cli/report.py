"""``ulsam-deploy report``: bundles and result files on one offline page, side by side where there are several."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from ulsam_deploy.device.bench.result import Result
from ulsam_deploy.device.bundle import read_bundle
from ulsam_deploy.device.bundle.kinds import PAGE
from ulsam_deploy.device.bundle.output import Output
from ulsam_deploy.device.commands import words
from ulsam_deploy.device.errors import Exit, UnavailableError, UsageError
from ulsam_deploy.device.printing import say
from ulsam_deploy.report import page
from ulsam_deploy.report.part import Part


def run(arguments: argparse.Namespace) -> Exit:
    """Write the page. Its verdicts are those that the files hold: nothing is checked again but their integrity."""
    if lacking := page.lacking():
        raise UnavailableError(f"a report needs {lacking}", todo="pip install 'ulsam-deploy[report]'")
    from ulsam_deploy.report.comparison import comparison

    output = Output(arguments.output, PAGE, arguments.force)
    output.check()
    names = _names(arguments.files)
    parts = [_part(path, name) for path, name in zip(arguments.files, names)]
    held = comparison([(part.name, part.figures()) for part in parts]) if len(parts) > 1 else None
    title = parts[0].name if held is None else f"{len(parts)} files side by side"
    data = page.page(title, parts, held).encode()
    output.write(data)
    if arguments.json:
        files = [{"file": part.name, "verdict": part.verdict.value, "sentence": part.sentence} for part in parts]
        words.print_json("report", {"path": str(output.path), "size": len(data), "files": files})
        return Exit.OK
    for part in parts:
        say(f"{part.name}: {part.verdict.value}; {part.sentence}")
    say("", f"Made:   {output.path}, {words.size(len(data))}, one file that fetches nothing")
    say("Open it in any browser, or attach it to a release.")
    return Exit.OK


def _names(paths: Sequence[Path]) -> list[str]:
    """What each file is called on the page: its name, or its whole path where two have the same."""
    short = [path.resolve().name.removesuffix(".zip").removesuffix(".bundle") for path in paths]
    return [name if short.count(name) == 1 else str(path) for name, path in zip(short, paths)]


def _part(path: Path, name: str) -> Part:
    from ulsam_deploy.report.subject import of_bundle
    from ulsam_deploy.report.timed import TimedPart

    if path.suffix == ".json" and path.is_file():
        return TimedPart(name, Result.from_json(path.read_bytes(), path.name))
    if path.is_file() and path.suffix != ".zip":
        raise UsageError(
            f"'{path}' is neither a bundle nor a result file",
            expected="a bundle folder, a .zip made from one, or a .json of 'ulsam-deploy bench'",
        )
    bundle = read_bundle(path)
    bundle.verify_integrity()
    return of_bundle(bundle.manifest, bundle.root, name)
