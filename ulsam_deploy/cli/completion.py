"""``ulsam-deploy completion``: every command's words for a shell's completion, written by shtab from the parser."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

from ulsam_deploy.device import plugins
from ulsam_deploy.device.commands import words
from ulsam_deploy.device.errors import Exit, UnavailableError

#: Both names: ``ulsam-export`` completes what ``ulsam-deploy export`` does.
PROGRAMS = ("ulsam-deploy", "ulsam-export")


def run(arguments: argparse.Namespace) -> Exit:
    """Print the script for both programs."""
    try:
        import shtab
    except ImportError as error:
        raise UnavailableError(
            "completion scripts are written by shtab, which is not installed", todo="pip install shtab"
        ) from error
    scripts = [shtab.complete(parser, arguments.shell) for parser in _parsers()]
    text = "\n".join(scripts)
    if arguments.json:
        words.print_json("completion", {"shell": arguments.shell, "script": text})
    else:
        print(text)
    return Exit.OK


def _parsers() -> Iterator[argparse.ArgumentParser]:
    from ulsam_deploy.cli.parser import build_parser

    whole = build_parser()
    commands = next(action for action in whole._actions if isinstance(action, argparse._SubParsersAction))
    export = commands.choices["export"]
    for command in commands.choices.values():
        _hint(command)
    yield whole
    export.prog = PROGRAMS[1]
    yield export


def _hint(command: argparse.ArgumentParser) -> None:
    """What a word's value is, for those that argparse knows no choices of."""
    import shtab

    for action in command._actions:
        if action.type is Path:
            action.complete = shtab.FILE  # type: ignore[attr-defined]
        elif action.dest == "target" and not action.choices:
            action.choices = [*plugins.registered(plugins.EXPORTERS), "all"]
