"""A pool of local processes: each does one task at a time, and the crash of one does not affect the others.

A task whose process died is run again. After :data:`LIVES` such deaths the task is given up, because it may be their
cause.
"""

from __future__ import annotations

import contextlib
import math
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from typing import Protocol, TypeVar

from ulsam_deploy.device import share
from ulsam_deploy.device.elsewhere.limits import Limits
from ulsam_deploy.device.elsewhere.message import received
from ulsam_deploy.device.elsewhere.worker import DiedError, Worker
from ulsam_deploy.device.errors import UlsamError

__all__ = ["LIVES", "LocalPool", "LostError", "Pool", "ending", "local", "local_workers"]

Q = TypeVar("Q")
A = TypeVar("A")

#: How many workers may die with a task before it is given up (Dask's ``allowed-failures`` has the same default).
LIVES = 4
#: No limits on time and memory: a conversion is of the user's own network.
_ANY = Limits(math.inf, None, "off")


class LostError(UlsamError):
    """Several workers died while they ran this task."""


class Pool(Protocol):
    """An executor of tasks: functions that take one frozen dataclass and return another."""

    def submit(self, function: Callable[[Q], A], request: Q, /) -> Future[A]:
        """Run ``function`` on ``request`` in some process; the future has its result or its error."""
        ...


class LocalPool:
    """``workers`` local processes, each with one task at a time; if one dies, only its own task is lost."""

    def __init__(self, workers: int, lives: int = LIVES) -> None:
        self._lives = lives
        self._threads = ThreadPoolExecutor(workers)
        self._own = threading.local()
        self._lock = threading.Lock()  # so that no process is started while the pool shuts down, or later
        self._workers: set[Worker] = set()
        self._closed = False
        self._environment = share.for_children(workers)

    def submit(self, function: Callable[[Q], A], request: Q, /) -> Future[A]:
        """Run ``function`` in one of the processes."""
        return self._threads.submit(self._call, function, request)

    def _call(self, function: Callable[[Q], A], request: Q) -> A:
        how = ""
        for _ in range(self._lives):
            worker = self._worker()
            try:
                return received(worker.ask(function, request, "this task"))
            except DiedError:
                self._own.worker = None
                self._workers.discard(worker)
                code = worker.end()
                how = f"by signal {-code}" if code < 0 else f"with code {code}"
        raise LostError(
            f"{self._lives} worker{'s' * (self._lives > 1)} died with this task, the last one {how}",
            expected="a task that fits into the memory that was stated",
            todo="give it more with 'memory' in the sweep's file, or run it alone",
        )

    def _worker(self) -> Worker:
        """The process of this thread, started for its first task and again after it died."""
        with self._lock:
            if self._closed:
                raise LostError("the run was ended")
            worker: Worker | None = getattr(self._own, "worker", None)
            if worker is None:
                worker = self._own.worker = Worker(_ANY, environment=self._environment)
                self._workers.add(worker)
            return worker

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """End the processes: at once with ``cancel_futures``, otherwise after their current tasks.

        Waiting tasks are dropped before the processes are killed; otherwise a thread whose process dies would start the
        next one.
        """
        self._threads.shutdown(wait=not cancel_futures, cancel_futures=cancel_futures)
        with self._lock:
            self._closed = True
            workers = list(self._workers)
        if not cancel_futures:
            Worker.leave(workers)
        for worker in workers:
            worker.end()
        self._threads.shutdown(wait=wait)


@contextlib.contextmanager
def local(workers: int, lives: int = LIVES) -> Iterator[LocalPool]:
    """A pool of ``workers`` processes, with its :func:`ending`."""
    pool = LocalPool(workers, lives)
    with ending(pool):
        yield pool


@contextlib.contextmanager
def ending(pool: Executor | LocalPool) -> Iterator[None]:
    """Let ``pool`` finish; on an error, and on Ctrl-C, drop the waiting tasks and end the running ones."""
    try:
        yield
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        raise
    pool.shutdown()


def local_workers(asked: int | None, memory: int) -> int:
    """The number of local processes: ``asked``, or one for each core, but no more than ``memory`` allows."""
    room = max(1, share.memory() // memory)
    return asked or max(1, min(share.cores(), room))
