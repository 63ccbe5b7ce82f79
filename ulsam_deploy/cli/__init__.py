"""Words in, exit code out: ``ulsam-deploy`` and its short form ``ulsam-export``."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from collections.abc import Callable, Sequence
from importlib import import_module

from ulsam_deploy.cli.answer import Answer
from ulsam_deploy.errors import Exit, UlsamError


def main(argv: Sequence[str] | None = None, commands: Sequence[str] | None = None) -> int:
    """Run one ``ulsam-deploy`` command (one of ``commands``, where given); returns its exit code.

    A user never sees a traceback of a known error.
    """
    from ulsam_deploy.cli.parser import COMMANDS, build_parser

    known = COMMANDS if commands is None else commands
    words = list(sys.argv[1:] if argv is None else argv)
    if words and words[0] in known:
        known = (words[0],)  # the others' words cost as much to import as this one's
    answer = Answer(words)
    try:
        arguments = _read(build_parser, known, words)
        answer.check(arguments)
        command = import_module(f"ulsam_deploy.cli.{arguments.command}")
        with answer.held():
            return int(command.run(arguments))
    except UlsamError as error:
        sys.stderr.write(f"error: {error}\n")
        return answer.failed(error.exit_code, error.found, error.expected, error.todo)
    except SystemExit as stop:  # argparse has told on stderr which word is wrong
        if not stop.code or not answer.as_json:
            raise
        return answer.failed(Exit.USAGE, "the command line is wrong", todo="ulsam-deploy COMMAND --help")
    except KeyboardInterrupt:
        sys.stderr.write("interrupted: nothing was left half-written\n")
        return answer.failed(Exit.INTERRUPTED, "interrupted: nothing was left half-written")
    except BrokenPipeError:  # the reader of our output went away (| head): not our error, nothing more to say
        with contextlib.suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return int(Exit.OK)


def _read(
    parser: Callable[[Sequence[str]], argparse.ArgumentParser], known: Sequence[str], words: list[str]
) -> argparse.Namespace:
    """The words, to which those of a ``--config`` file are added; ``--save-config`` writes them all out."""
    if not any(word.startswith(("--config", "--save-config")) for word in words):
        return parser(known).parse_args(words)
    from ulsam_deploy.cli import config

    words[:] = config.merged(parser(known), words)
    arguments = parser(known).parse_args(words)
    if getattr(arguments, "save_config", None):
        config.save(parser(known), words, arguments.save_config, force=arguments.force)
    return arguments


def export_main(argv: Sequence[str] | None = None) -> int:
    """``ulsam-export MODEL ...`` is ``ulsam-deploy export MODEL ...``."""
    return main(["export", *(sys.argv[1:] if argv is None else argv)])
