"""Words in, exit code out: ``ulsam-deploy`` and its short form ``ulsam-export``."""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import TYPE_CHECKING

from ulsam_deploy.cli.answer import Answer
from ulsam_deploy.cli.combinations import check_typed, check_words
from ulsam_deploy.cli.ending import ended
from ulsam_deploy.device.errors import Exit, UlsamError

#: What Python does at a character that an encoding lacks, where that ends a run.
_STRICT = ("strict", "surrogateescape")
if TYPE_CHECKING:
    from ulsam_deploy.cli.reading import Parser


def main(
    argv: Sequence[str] | None = None,
    commands: Sequence[str] | None = None,
    foreseen: Callable[[Exception], UlsamError | None] = lambda _: None,
) -> int:
    """Run one ``ulsam-deploy`` command.

    A user never sees a traceback: :func:`ulsam_deploy.cli.ending.ended` has words for whatever is raised.

    Args:
        argv: the words; ``None`` for those of this process.
        commands: those that can be run; ``None`` for all.
        foreseen: the error in words for an exception that this way of starting expects; ``None`` for any other.

    Returns:
        The exit code.
    """
    from ulsam_deploy.cli.parser import COMMANDS, build_parser

    known = COMMANDS if commands is None else commands
    words = list(sys.argv[1:] if argv is None else argv)
    if words and words[0] in known:
        known = (words[0],)  # the others' words cost as much to import as this one's
    answer, arguments = Answer(words), None
    _show_anything()
    try:
        arguments = _read(build_parser, known, words)
        answer.check(arguments)
        command = import_module(f"ulsam_deploy.cli.{arguments.command}")
        with answer.held():
            return int(command.run(arguments))
    except BrokenPipeError:  # the reader of our output went away (| head): not our error, nothing more to say
        with contextlib.suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return int(Exit.OK)
    except KeyboardInterrupt as error:
        return answer.failed(ended(error, words, arguments))
    except Exception as error:
        return answer.failed(ended(foreseen(error) or error, words, arguments))


def _show_anything() -> None:
    """Let a name that the terminal's encoding lacks be shown escaped: no run ends over how a result looks."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.errors in _STRICT:
            stream.reconfigure(errors="backslashreplace")


def _read(parser: Callable[[Sequence[str]], Parser], known: Sequence[str], words: list[str]) -> argparse.Namespace:
    """The words, to which those of a ``--config`` file are added; ``--save-config`` writes them all out."""
    check_words(words)
    configured = any(word.startswith(("--config", "--save-config")) for word in words)
    if configured:
        from ulsam_deploy.cli import config

        words[:] = config.merged(parser(known), words)
    read = parser(known)
    arguments = read.parse_args(words)
    check_typed(read, arguments)
    if configured and getattr(arguments, "save_config", None):
        config.save(parser(known), words, arguments.save_config, force=arguments.force)
    return arguments


def export_main(argv: Sequence[str] | None = None) -> int:
    """``ulsam-export MODEL ...`` is ``ulsam-deploy export MODEL ...``."""
    return main(["export", *(sys.argv[1:] if argv is None else argv)])
