"""One run of the command line: from arguments to exit code, and never a traceback."""

from __future__ import annotations

import argparse
import contextlib
import io
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence

from ulsam_deploy.device import share
from ulsam_deploy.device.commands.combinations import check_typed, check_words
from ulsam_deploy.device.commands.console import Console, abandon_stdout
from ulsam_deploy.device.commands.parser import command_of, overview, parser_of
from ulsam_deploy.device.ending import ended
from ulsam_deploy.device.errors import Exit, UlsamError

#: Error handlers of streams with which a character that the encoding lacks would end a run.
_STRICT = ("strict", "surrogateescape")


def run_command(
    argv: Sequence[str] | None,
    packages: Mapping[str, str],
    foreseen: Callable[[Exception], UlsamError | None] = lambda _: None,
) -> int:
    """Run one command.

    A user never sees a traceback: :func:`~ulsam_deploy.device.ending.ended` reports any exception as a message.

    Args:
        argv: The arguments; ``None`` for those of this process.
        packages: The available commands, and the package of each.
        foreseen: Returns the error for an exception that this entry point expects; ``None`` for any other.

    Returns:
        The exit code.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    console, arguments = Console(words), None
    _show_anything()
    try:
        share.claim()
        arguments = _read(packages, words)
        console.check(arguments)
        command = command_of(packages, arguments.command)
        with _terminated_is_interrupted():
            with console.kept_clean():
                answer = command.run(arguments)
            return console.give(answer)
    except SystemExit:  # of --help and --version, which print by themselves
        try:
            sys.stdout.flush()
        except OSError as error:
            return console.failed(ended(error, words))
        raise
    except BrokenPipeError:  # the reader of the output is gone (| head), which is no error of this program
        abandon_stdout()
        return int(Exit.OK)
    except KeyboardInterrupt as error:
        return console.failed(ended(error, words, arguments))
    except Exception as error:
        return console.failed(ended(foreseen(error) or error, words, arguments))


@contextlib.contextmanager
def _terminated_is_interrupted() -> Iterator[None]:
    """Let SIGTERM and SIGHUP end the block as Ctrl-C does, with all cleanup; an existing handler is not replaced.

    SIGHUP is what a closed terminal or a lost SSH connection sends; ``nohup`` ignores it, and so does the block then.
    """

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    of_main = threading.current_thread() is threading.main_thread()  # Python can set handlers only there
    ends = [one for one in (signal.SIGTERM, signal.SIGHUP) if of_main and signal.getsignal(one) is signal.SIG_DFL]
    for one in ends:
        signal.signal(one, interrupt)
    try:
        yield
    finally:
        for one in ends:
            signal.signal(one, signal.SIG_DFL)


def _show_anything() -> None:
    """Escape characters that the terminal's encoding lacks: printing a result must not end a run."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.errors in _STRICT:
            stream.reconfigure(errors="backslashreplace")


def _read(packages: Mapping[str, str], words: list[str]) -> argparse.Namespace:
    """Parse the arguments, together with those of a ``--config`` file; ``--save-config`` writes them to a file."""
    check_words(words)
    if not words or words[0] not in packages:  # help, or a mistake: neither needs the options of any command
        return overview(packages, tuple(packages)).parse_args(words)
    parser = parser_of(packages, words[:1])  # importing all other commands would cost as much each
    if any(word.startswith(("--config", "--save-config")) for word in words):
        from ulsam_deploy.device.commands import config

        words[:] = config.merged(parser, words)
    arguments = parser.parse_args(words)
    check_typed(words[0], parser.commands[words[0]], words[1:])
    if getattr(arguments, "save_config", None):
        config.save(parser, words, arguments.save_config, force=arguments.force)
    return arguments
