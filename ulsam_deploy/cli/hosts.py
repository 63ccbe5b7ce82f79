"""A command on several boards behind SSH at once: runner and bundle are sent, and the replies fetched."""

from __future__ import annotations

import argparse
import contextlib
import math
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from ulsam_deploy.boards.remote import Finished, Link, Order, check_host, printable, run_job
from ulsam_deploy.boards.runner import runner_bytes
from ulsam_deploy.device import codec
from ulsam_deploy.device.bundle import read_bundle
from ulsam_deploy.device.commands.answer import Aside
from ulsam_deploy.device.commands.ending import defect, in_words
from ulsam_deploy.device.errors import Exit, RefusedError, UlsamError, UnavailableError, UsageError, combine
from ulsam_deploy.device.files import scratch

__all__ = ["Reply", "asides", "at_hosts", "document", "last_words", "overall", "sent"]

T = TypeVar("T")


@dataclass
class Reply:
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
) -> list[Reply]:
    """Do ``runner.pyz`` with ``words`` on every ``--host``, all at once; a reply for each, in their order.

    Ctrl-C stops them all, and cleans the boards. What they write to stderr comes out here, line by line.
    """
    hosts = [check_host(host) for host in arguments.host]
    twice = next((host for host in hosts if hosts.count(host) > 1), None)
    if twice:
        raise UsageError(f"--host {twice} is there twice", expected="each host once")
    order = Order(folder, ("runner.pyz", *words), tuple(results), arguments.host_time_limit)
    stop = threading.Event()
    replies = [Reply(host) for host in hosts]
    for reply in replies:
        threading.Thread(target=_work, args=(reply, arguments, order, stop), name=reply.host, daemon=True).start()
    try:
        _await(replies)
    except BaseException:
        stop.set()
        _await(replies, 60.0)
        raise
    return replies


def _await(replies: Sequence[Reply], seconds: float = math.inf) -> None:
    """Wait until all are done. Not by joining: an interrupted ``join`` takes a thread that runs for one that ended."""
    deadline = time.monotonic() + seconds
    for reply in replies:
        while not reply.done.wait(0.2) and time.monotonic() < deadline:
            pass


def _work(reply: Reply, arguments: argparse.Namespace, order: Order, stop: threading.Event) -> None:
    link = Link(reply.host, arguments.ssh_config, arguments.host_python, stop)
    try:
        reply.finished = run_job(link, order, _teller(reply.host))
        reply.code = _code(reply)
    except UlsamError as error:
        reply.error, reply.code = error, Exit(error.exit_code)
    except Exception as error:  # a thread's traceback would be lost between the other hosts' lines
        reply.error = in_words(error) or defect(error, order.words)
        reply.error.found = f"{reply.host}: {reply.error.found}"
        reply.code = Exit(reply.error.exit_code)
    finally:
        reply.done.set()


def _code(reply: Reply) -> Exit:
    finished = reply.finished
    assert finished is not None
    try:
        code = Exit(finished.exit_code)
    except ValueError:  # a traceback, or a signal
        code = Exit.UNAVAILABLE
        reply.error = UnavailableError(f"{reply.host}: {last_words(finished)}")
    return code


def last_words(finished: Finished) -> str:
    """The error that a job ended with, as it was told there."""
    told = printable(finished.err).strip()
    _, error, text = told.rpartition("error: ")
    return text if error else (told.splitlines() or ["it said nothing"])[-1]


def _teller(host: str) -> Callable[[str], None]:
    """Writes whole lines to stderr, each with its host before it."""
    rest = ""

    def tell(text: str) -> None:
        nonlocal rest
        *lines, rest = (rest + text).split("\n")
        sys.stderr.write("".join(f"{host}: {line}\n" for line in lines))
        sys.stderr.flush()

    return tell


def overall(replies: Sequence[Reply]) -> Exit:
    """The one exit code; a code that no check has (wrong usage there) counts where nothing else went wrong."""
    codes = [reply.code for reply in replies]
    return combine(codes) or max(codes)


def asides(replies: Sequence[Reply]) -> list[Aside]:
    """What went wrong, a line for each host."""
    return [Aside(f"error: {reply.error}") for reply in replies if reply.error]


def document(reply: Reply, kind: type[T]) -> T | None:
    """The document that a job printed; ``None``, with ``error`` and ``code`` set, where there is none.

    What a board sends is not trusted: it must be a ``kind`` down to the numbers.
    """
    if reply.finished is None or reply.error:
        return None
    name = f"the answer of {reply.host}"
    try:
        return codec.decode(kind, codec.loads(reply.finished.out.encode(errors="replace"), name), name)
    except RefusedError as error:
        if reply.code in (Exit.OK, Exit.CHECK_FAILED, Exit.INCONCLUSIVE):
            reply.error, reply.code = RefusedError(error.found, expected=error.expected), Exit.REFUSED
        else:
            reply.error = UnavailableError(f"{reply.host}: {last_words(reply.finished)}")
        return None
