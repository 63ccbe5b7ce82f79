"""``ulsam-deploy completion``: every command's words for a shell's completion, written by shtab from the parser."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass

from ulsam_deploy.device.commands.answer import Answer, schema_field
from ulsam_deploy.device.commands.reading import Parser
from ulsam_deploy.device.errors import UnavailableError

HELP = "print what lets your shell complete the words of ulsam-deploy"
SHELLS = ("bash", "zsh", "fish")
#: Both names: ``ulsam-export`` completes what ``ulsam-deploy export`` does.
PROGRAMS = ("ulsam-deploy", "ulsam-export")


@dataclass(frozen=True)
class CompletionDocument:
    """``completion``: the script for a shell."""

    shell: str
    script: str
    schema: str = schema_field("completion", 1)


def add_words(parser: Parser) -> None:
    """Declare the words of this command."""
    parser.words.add("shell", choices=SHELLS, help='bash: put eval "$(ulsam-deploy completion bash)" into ~/.bashrc')


def run(arguments: argparse.Namespace) -> Answer:
    """The script for both programs."""
    try:
        import shtab
    except ImportError as error:
        raise UnavailableError(
            "completion scripts are written by shtab, which is not installed", todo="pip install shtab"
        ) from error
    script = "\n".join(shtab.complete(parser, arguments.shell) for parser in _parsers())
    return Answer(CompletionDocument(arguments.shell, script), [script])


def _parsers() -> Iterator[Parser]:
    from ulsam_deploy.cli.parser import build_parser

    whole = build_parser()
    for command in whole.commands.values():
        _hint(command)
    yield whole
    export = whole.commands["export"]
    export.prog = PROGRAMS[1]
    yield export


def _hint(command: Parser) -> None:
    """What a word's value is, for those that argparse knows no choices of."""
    import shtab

    from ulsam_deploy.device import plugins

    for word in command.declared:
        if word.is_path:
            word.action.complete = shtab.FILE  # type: ignore[attr-defined]
        elif word.dest == "target" and not word.action.choices:
            word.action.choices = [*plugins.registered(plugins.EXPORTERS), "all"]
