"""Runs a command on several boards over SSH in parallel: sends runner and bundle, and fetches the replies."""

from __future__ import annotations

import argparse
import contextlib
import math
import os
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from ulsam_deploy.boards.remote import Finished, Link, Order, check_host, run_job
from ulsam_deploy.boards.runner import runner_bytes
from ulsam_deploy.device import codec
from ulsam_deploy.device.bundle import read_bundle
from ulsam_deploy.device.commands.answer import Aside, ErrorDocument
from ulsam_deploy.device.data_files import contents, opened
from ulsam_deploy.device.ending import defect, in_words
from ulsam_deploy.device.errors import Exit, RefusedError, UlsamError, UnavailableError, UsageError, combine
from ulsam_deploy.device.files import scratch
from ulsam_deploy.device.printing import say, shown_lines

__all__ = ["HostReply", "asides", "at_hosts", "document", "last_words", "overall", "sent", "stopped"]

T = TypeVar("T")

#: With these, OpenSSH reads no file.
_NO_CONFIG = ("none", os.devnull)
_LARGEST_CONFIG = 1 << 20


@dataclass
class HostReply:
    """The reply of one host: ``finished``, or the ``error`` that prevented it."""

    host: str
    finished: Finished | None = None
    error: UlsamError | None = None
    code: Exit = Exit.UNAVAILABLE
    done: threading.Event = field(default_factory=threading.Event)


@contextlib.contextmanager
def sent(bundles: Mapping[str, Path], files: Mapping[str, Path] | None = None) -> Iterator[Path]:
    """A folder to send, with ``runner.pyz``, copies of ``bundles`` (folders or ``.zip``) and of ``files`` by name.

    A bundle's integrity is checked before it is sent; raises what :func:`read_bundle` and the check raise.
    """
    with scratch() as folder:
        (folder / "runner.pyz").write_bytes(runner_bytes())
        for word, path in bundles.items():
            bundle = read_bundle(path)
            bundle.verify_integrity()
            shutil.copytree(bundle.root, folder / word)
        for word, path in (files or {}).items():
            try:
                with opened(path) as source, (folder / word).open("wb") as sink:
                    shutil.copyfileobj(source, sink)
            except OSError as error:
                raise UsageError(f"{path} can't be read: {error.strerror}") from error
        yield folder


def at_hosts(
    arguments: argparse.Namespace, folder: Path, words: Sequence[str], results: Sequence[str] = ()
) -> list[HostReply]:
    """Run ``runner.pyz`` with the arguments ``words`` on every ``--host`` in parallel; a reply for each, in order.

    Ctrl-C stops them all, and cleans the boards. Their stderr is printed here, line by line.
    """
    hosts = [check_host(host) for host in arguments.host]
    _check_config(arguments.ssh_config)
    twice = next((host for host in hosts if hosts.count(host) > 1), None)
    if twice:
        raise UsageError(f"--host {twice} is given twice", expected="each host once")
    order = Order(folder, ("runner.pyz", *words), tuple(results), arguments.host_time_limit)
    stop = threading.Event()
    replies = [HostReply(host) for host in hosts]
    for reply in replies:
        threading.Thread(target=_work, args=(reply, arguments, order, stop), name=reply.host, daemon=True).start()
    try:
        _await(replies)
    except BaseException:
        stop.set()
        _await(replies, 60.0)
        raise
    return replies


def _check_config(path: Path | None) -> None:
    """Raise :class:`UsageError` unless ``path`` is a file: ``ssh`` waits for a pipe, and reads a device for ever."""
    if path is None or str(path) in _NO_CONFIG:
        return
    try:
        contents(path, _LARGEST_CONFIG)
    except OSError as error:
        raise UsageError(f"--ssh-config: {path} can't be read: {error.strerror}") from error


def _await(replies: Sequence[HostReply], seconds: float = math.inf) -> None:
    """Wait until all are done; not with ``join``, because an interrupted ``join`` marks a running thread as ended."""
    deadline = time.monotonic() + seconds
    for reply in replies:
        while not reply.done.wait(0.2) and time.monotonic() < deadline:
            pass


def _work(reply: HostReply, arguments: argparse.Namespace, order: Order, stop: threading.Event) -> None:
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


def _code(reply: HostReply) -> Exit:
    finished = reply.finished
    assert finished is not None
    try:
        code = Exit(finished.exit_code)
    except ValueError:  # a traceback, or a signal
        code = Exit.UNAVAILABLE
        reply.error = UnavailableError(f"{reply.host}: {last_words(finished)}")
    return code


def last_words(finished: Finished) -> str:
    """The error that a job ended with, as printed there."""
    told = shown_lines(finished.err).strip()
    _, error, text = told.rpartition("error: ")
    return text if error else (told.splitlines() or ["it said nothing"])[-1]


def _teller(host: str) -> Callable[[str], None]:
    """A function that writes whole lines to stderr, each with the host as prefix."""
    rest = ""

    def tell(text: str) -> None:
        nonlocal rest
        *lines, rest = (rest + text).split("\n")
        say(*(f"{host}: {line}" for line in lines), error=True)
        sys.stderr.flush()

    return tell


def overall(replies: Sequence[HostReply]) -> Exit:
    """The exit code for all hosts; a code that no check has (wrong usage there) counts if there is no other error."""
    codes = [reply.code for reply in replies]
    return combine(codes) or max(codes)


def asides(replies: Sequence[HostReply]) -> list[Aside]:
    """The errors, one line for each host."""
    return [Aside(str(reply.error), "error") for reply in replies if reply.error]


def document(reply: HostReply, kind: type[T]) -> T | None:
    """The document that a job printed; ``None``, with ``error`` and ``code`` set, if there is none.

    What a board sends is not trusted: it must be a valid ``kind`` in every detail.
    """
    if reply.finished is None or reply.error:
        return None
    name = f"the answer of {reply.host}"
    try:
        return _decoded(reply.finished, kind, name)
    except RefusedError as error:
        told = _told(reply)
        if told is None and reply.code in (Exit.OK, Exit.CHECK_FAILED, Exit.INCONCLUSIVE):
            told = RefusedError(error.found, expected=error.expected)
        reply.error = told or UnavailableError(f"{reply.host}: {last_words(reply.finished)}")
        reply.code = Exit(reply.error.exit_code)
        return None


def stopped(reply: HostReply) -> UlsamError:
    """The error of a job without a document: the error document that it printed, or else its last line."""
    assert reply.finished is not None
    return _told(reply) or UnavailableError(f"{reply.host}: {last_words(reply.finished)}")


def _told(reply: HostReply) -> UlsamError | None:
    """The error whose document a job printed; ``None`` where it printed none."""
    assert reply.finished is not None
    try:
        error = _decoded(reply.finished, ErrorDocument, f"the answer of {reply.host}").error()
    except RefusedError:
        return None
    error.found = f"{reply.host}: {error.found}"
    return error


def _decoded(finished: Finished, kind: type[T], name: str) -> T:
    return codec.decode(kind, codec.loads(finished.out.encode(errors="replace"), name), name)
