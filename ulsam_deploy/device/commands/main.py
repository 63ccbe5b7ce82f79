"""One run of the command line: words in, exit code out, and never a traceback."""

from __future__ import annotations

import argparse
import contextlib
import io
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence

from ulsam_deploy.device.commands.combinations import check_typed, check_words
from ulsam_deploy.device.commands.console import Console, abandon_stdout
from ulsam_deploy.device.commands.parser import command_of, overview, parser_of
from ulsam_deploy.device.ending import ended
from ulsam_deploy.device.errors import Exit, UlsamError

#: What Python does at a character that an encoding lacks, where that ends a run.
_STRICT = ("strict", "surrogateescape")


def run_command(
    argv: Sequence[str] | None,
    packages: Mapping[str, str],
    foreseen: Callable[[Exception], UlsamError | None] = lambda _: None,
) -> int:
    """Run one command.

    A user never sees a traceback: :func:`~ulsam_deploy.device.ending.ended` has words for whatever is fused.

    Args:
        argv: the words; ``None`` for those of this process.
        packages: the commands that can be run, and where each is.
        foreseen: the error in words for an exception that this way of starting expects; ``None`` for any other.

    Returns:
        The exit code.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    console, arguments = Console(words), None
    _show_anything()
    try:
        arguments = _read(packages, words)
        console.check(arguments)
        command = command_of(packages, arguments.command)
        with _terminated_is_interrupted():
            with console.kept_clean():
                answer = command.run(arguments)
            return console.give(answer)
    except BrokenPipeError:  # the reader of our output went away (| head): not our error, nothing more to say
        abandon_stdout()
        return int(Exit.OK)
    except KeyboardInterrupt as error:
        return console.failed(ended(error, words, arguments))
    except Exception as error:
        return console.failed(ended(foreseen(error) or error, words, arguments))


@contextlib.contextmanager
def _terminated_is_interrupted() -> Iterator[None]:
    """Let SIGTERM end the block as Ctrl-C does, with everything put away; a handler of somebody else's stays."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    of_main = threading.current_thread() is threading.main_thread()  # Python sets handlers nowhere else
    if not of_main or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return
    signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _show_anything() -> None:
    """Let a name that the terminal's encoding lacks be shown escaped: no run ends over how a result looks."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.errors in _STRICT:
            stream.reconfigure(errors="backslashreplace")


def _read(packages: Mapping[str, str], words: list[str]) -> argparse.Namespace:
    """The words, to which those of a ``--config`` file are added; ``--save-config`` writes them all out."""
    check_words(words)
    if not words or words[0] not in packages:  # help, or a slip: neither needs any command's own words
        return overview(packages, tuple(packages)).parse_args(words)
    parser = parser_of(packages, words[:1])  # the others' words cost as much to import as this one's
    if any(word.startswith(("--config", "--save-config")) for word in words):
        from ulsam_deploy.device.commands import config

        words[:] = config.merged(parser, words)
    arguments = parser.parse_args(words)
    check_typed(words[0], parser.commands[words[0]], words[1:])
    if getattr(arguments, "save_config", None):
        config.save(parser, words, arguments.save_config, force=arguments.force)
    return arguments
