"""A command on several boards behind SSH at once: runner and bundle are sent, and the answers fetched."""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ulsam_deploy.boards.remote import Finished, Link, Order, check_host, run_job
from ulsam_deploy.boards.runner import runner_bytes
from ulsam_deploy.device import codec
from ulsam_deploy.device.bundle import read_bundle
from ulsam_deploy.device.commands.answer import ERROR
from ulsam_deploy.device.elsewhere.failure import Failure
from ulsam_deploy.device.ending import defect, in_words
from ulsam_deploy.device.errors import Exit, RefusedError, UlsamError, UnavailableError, UsageError, combine
from ulsam_deploy.device.files import scratch
from ulsam_deploy.device.printing import say, shown_lines

__all__ = ["HostAnswer", "at_hosts", "document", "overall", "sent", "stopped"]


_ERROR = f"ulsam-deploy.{ERROR}/1"


@dataclass
class HostAnswer:
    """What came of one host: ``finished``, or the ``error`` why nothing did."""

    host: str
    finished: Finished | None = None
    error: UlsamError | None = None
    code: Exit = Exit.UNAVAILABLE
    done: threading.Event = field(default_factory=threading.Event)


@contextlib.contextmanager
def sent(bundles: Mapping[str, Path], files: Mapping[str, Path] | None = None) -> Iterator[Path]:
    """A folder with ``runner.pyz``, copies of ``bundles`` (folders or ``.zip``) and of ``files`` by name.

    A bundle's integrity is checked before it leaves; raises what :func:`read_bundle` and the check raise.
    """
    with scratch() as folder:
        (folder / "runner.pyz").write_bytes(runner_bytes())
        for word, path in bundles.items():
            bundle = read_bundle(path)
            bundle.verify_integrity()
            shutil.copytree(bundle.root, folder / word)
        for word, path in (files or {}).items():
            try:
                shutil.copyfile(path, folder / word)
            except OSError as error:
                raise UsageError(f"{path} can't be read: {error.strerror}") from error
        yield folder


def at_hosts(
    arguments: argparse.Namespace, folder: Path, words: Sequence[str], results: Sequence[str] = ()
) -> list[HostAnswer]:
    """Do ``runner.pyz`` with ``words`` on every ``--host``, all at once; an answer for each, in their order.

    Ctrl-C stops them all, and cleans the boards. What they write to stderr comes out here, line by line.
    """
    hosts = [check_host(host) for host in arguments.host]
    twice = next((host for host in hosts if hosts.count(host) > 1), None)
    if twice:
        raise UsageError(f"--host {twice} is there twice", expected="each host once")
    order = Order(folder, ("runner.pyz", *words), tuple(results), arguments.host_time_limit)
    stop = threading.Event()
    answers = [HostAnswer(host) for host in hosts]
    for answer in answers:
        threading.Thread(target=_work, args=(answer, arguments, order, stop), name=answer.host, daemon=True).start()
    try:
        _await(answers)
    except BaseException:
        stop.set()
        _await(answers, 60.0)
        raise
    return answers


def _await(answers: Sequence[HostAnswer], seconds: float = math.inf) -> None:
    """Wait until all are done. Not by joining: an interrupted ``join`` takes a thread that runs for one that ended."""
    deadline = time.monotonic() + seconds
    for answer in answers:
        while not answer.done.wait(0.2) and time.monotonic() < deadline:
            pass


def _work(answer: HostAnswer, arguments: argparse.Namespace, order: Order, stop: threading.Event) -> None:
    link = Link(answer.host, arguments.ssh_config, arguments.host_python, stop)
    try:
        answer.finished = run_job(link, order, _teller(answer.host))
        answer.code = _code(answer)
    except UlsamError as error:
        answer.error, answer.code = error, Exit(error.exit_code)
    except Exception as error:  # a thread's traceback would be lost between the other hosts' lines
        answer.error = in_words(error) or defect(error, order.words)
        answer.error.found = f"{answer.host}: {answer.error.found}"
        answer.code = Exit(answer.error.exit_code)
    finally:
        answer.done.set()


def _code(answer: HostAnswer) -> Exit:
    finished = answer.finished
    assert finished is not None
    try:
        code = Exit(finished.exit_code)
    except ValueError:  # a traceback, or a signal
        code = Exit.UNAVAILABLE
        answer.error = UnavailableError(f"{answer.host}: {last_words(finished)}")
    return code


def last_words(finished: Finished) -> str:
    """The error that a job ended with, as it was told there."""
    told = shown_lines(finished.err).strip()
    _, error, text = told.rpartition("error: ")
    return text if error else (told.splitlines() or ["it said nothing"])[-1]


def _teller(host: str) -> Callable[[str], None]:
    """Writes whole lines to stderr, each with its host before it."""
    rest = ""

    def tell(text: str) -> None:
        nonlocal rest
        *lines, rest = (rest + text).split("\n")
        say(*(f"{host}: {line}" for line in lines), error=True)
        sys.stderr.flush()

    return tell


def overall(answers: Sequence[HostAnswer]) -> Exit:
    """The one exit code; a code that no check has (wrong usage there) counts where nothing else went wrong."""
    codes = [answer.code for answer in answers]
    return combine(codes) or max(codes)


def document(answer: HostAnswer, schema: str) -> dict[str, Any] | None:
    """The JSON document that a job printed; ``None``, with ``error`` and ``code`` set, where there is none.

    What a board sends is not trusted: it must be one object with this ``schema``.
    """
    if answer.finished is None or answer.error:
        return None
    found = _parsed(answer.finished)
    if found.get("schema") == schema:
        return found
    is_error = found.get("schema") == _ERROR
    if not is_error and answer.code in (Exit.OK, Exit.CHECK_FAILED, Exit.INCONCLUSIVE):
        answer.error = RefusedError(f"{answer.host}: its answer is no {schema} document")
        answer.code = Exit.REFUSED
    else:
        answer.error = stopped(answer)
        answer.code = Exit(answer.error.exit_code)
    return None


def stopped(answer: HostAnswer) -> UlsamError:
    """What ended a job without its document: the error that it printed in place of that, or else its last words."""
    assert answer.finished is not None
    found = _parsed(answer.finished)
    if found.pop("schema", "") != _ERROR:
        return UnavailableError(f"{answer.host}: {last_words(answer.finished)}")
    try:
        error = codec.decode(Failure, found, f"the answer of {answer.host}").error()
    except RefusedError as refused:
        return refused
    error.found, error.expected, error.todo = map(shown_lines, (error.found, error.expected, error.todo))
    error.found = f"{answer.host}: {error.found}"
    return error


def _parsed(finished: Finished) -> dict[str, Any]:
    """The JSON object that a job printed; empty where it printed none."""
    try:
        found = json.loads(finished.out)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
