"""Processes of this machine that do the work of one: each has one task at a time, and may die without the others.

A task that was lost with its process is handed out again; one that was lost with :data:`LIVES` of them is given up, for
it may be what kills them.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from multiprocessing.connection import Connection, Pipe
from typing import Any, TypeVar

from ulsam_deploy.device.errors import UlsamError

__all__ = ["LIVES", "LocalExecutor", "LostError", "ending", "local", "local_workers"]

T = TypeVar("T")

#: A task may take so many workers with it before it is given up (Dask's ``allowed-failures`` has the same default).
LIVES = 4
#: Seconds that a process may take to go.
PATIENCE = 10


class LostError(UlsamError):
    """A worker died, several times, while it had this task."""


class _There(Exception):  # noqa: N818 - no error of its own: the traceback in the other process, as a cause
    """Where an exception was raised; whoever shows the traceback of that one shows this text as well."""


class LocalExecutor(Executor):
    """``workers`` processes of this machine, each with one task at a time; a dead one takes only its own task along."""

    def __init__(self, workers: int, lives: int = LIVES) -> None:
        self._lives = lives
        self._threads = ThreadPoolExecutor(workers)
        self._own = threading.local()
        self._lock = threading.Lock()  # no process is started while, or after, all of them are ended
        self._processes: set[_Process] = set()
        self._closed = False
        self._cores = max(1, (os.cpu_count() or 1) // workers)

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        """Run ``fn`` in one of the processes; the function, its arguments and its result are pickled."""
        return self._threads.submit(self._call, fn, args, kwargs)

    def _call(self, fn: Callable[..., T], args: Any, kwargs: Any) -> T:
        for _ in range(self._lives):
            process = self._process()
            try:
                result: T = process.call(fn, args, kwargs)
                return result
            except EOFError:
                self._own.process = None
                self._processes.discard(process)
                code = process.end()
        how = f"by signal {-code}" if code and code < 0 else f"with code {code}"
        raise LostError(
            f"{self._lives} worker{'s' * (self._lives > 1)} died with this task, the last one {how}",
            expected="a task that fits into the memory that was stated",
            todo="give it more with 'memory' in the sweep's file, or run it alone",
        )

    def _process(self) -> _Process:
        """The process of this thread, started with its first task and in the place of a dead one."""
        with self._lock:
            if self._closed:
                raise LostError("the run was ended")
            process: _Process | None = getattr(self._own, "process", None)
            if process is None:
                process = self._own.process = _Process(self._cores)
                self._processes.add(process)
            return process

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """End the processes: at once with ``cancel_futures``, else after what they are doing.

        What waits is dropped before the processes are killed, or a thread whose process dies would take the next task.
        """
        self._threads.shutdown(wait=not cancel_futures, cancel_futures=cancel_futures)
        with self._lock:
            self._closed = True
            processes = list(self._processes)
        if not cancel_futures:
            _Process.leave(processes)
        for process in processes:
            process.end()
        self._threads.shutdown(wait=wait)


class _Process:
    """One worker process and the line to it.

    Not :mod:`multiprocessing`'s: that would run the caller's script again in every process, and who calls this library
    from a script owes us no ``if __name__ == "__main__"``.
    """

    def __init__(self, cores: int) -> None:
        self._ending = threading.Lock()
        self._line, there = Pipe()
        paths = [os.path.abspath(path) for path in sys.path]  # noqa: PTH100 - '' is the working directory
        with there:
            self._process = subprocess.Popen(
                [sys.executable, "-c", _START, str(there.fileno()), *paths],
                pass_fds=[there.fileno()], env={**os.environ, "OMP_NUM_THREADS": str(cores)},
                stdin=subprocess.DEVNULL, stdout=2,  # what is asked for on stdout is answered by one process
            )  # fmt: skip

    def call(self, fn: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        """The result of one call there, or its exception; raises :class:`EOFError` when the process dies over it."""
        try:
            self._line.send((fn, args, kwargs))
            good, value, there = self._line.recv()
        except OSError as error:
            raise EOFError from error
        if good:
            return value
        raise value from _There(there)

    @staticmethod
    def leave(idle: Sequence[_Process]) -> None:
        """Let processes go by themselves, for some seconds at most: so they clean up after themselves."""
        for one in idle:
            one._line.close()
        for one in idle:
            with contextlib.suppress(subprocess.TimeoutExpired):
                one._process.wait(PATIENCE)

    def end(self) -> int:
        """Kill the process, where it lives; its exit code.

        From any thread. The line is left to the thread that reads it: it finds its end, and drops it.
        """
        with self._ending:
            self._process.kill()
            return self._process.wait()


#: The process finds what this one finds.
_START = """
import sys
line, sys.path[:] = int(sys.argv[1]), sys.argv[2:]
from ulsam_deploy.exporting.workers import serve
serve(line)
"""


def serve(descriptor: int) -> None:
    """A worker's life: calls come, results go, until the line is cut."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the one who hands out
    with Connection(descriptor) as line:
        while _served(line):
            pass


def _served(line: Connection) -> bool:
    """One call; false when nobody waits for more."""
    try:
        fn, args, kwargs = line.recv()
    except EOFError:
        return False
    except Exception as error:  # a task that cannot be unpickled here, such as one from a module that is not found
        line.send((False, RuntimeError(f"the task cannot be read here: {error}"), traceback.format_exc()))
        return True
    try:
        answer = (True, fn(*args, **kwargs), "")
    except Exception as error:
        answer = (False, error, traceback.format_exc())
    try:
        line.send(answer)
    except OSError:
        return False
    except Exception as error:  # what cannot be pickled is told in words
        line.send((False, RuntimeError(f"{answer[1]!r:.300} cannot be sent: {error}"), answer[2]))
    return True


@contextlib.contextmanager
def local(workers: int, lives: int = LIVES) -> Iterator[LocalExecutor]:
    """So many processes, and their :func:`ending`."""
    pool = LocalExecutor(workers, lives)
    with ending(pool):
        yield pool


@contextlib.contextmanager
def ending(pool: Executor) -> Iterator[None]:
    """Let ``pool`` finish; on an error, and on Ctrl-C, drop what waits and end what runs."""
    try:
        yield
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        raise
    pool.shutdown()


def local_workers(asked: int | None, memory: int) -> int:
    """How many local processes: as many as asked for, else one a core, but only as many as ``memory`` allows."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    room = max(1, _free() // memory)
    return asked or max(1, min(cores, room))


def _free() -> int:
    """Memory that is to be had here, in bytes: the smaller of the machine's and the control group's."""
    found = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")]
    with contextlib.suppress(OSError, ValueError, IndexError), open("/proc/meminfo") as lines:  # noqa: PTH123
        found.append(next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable")))
    with contextlib.suppress(OSError, ValueError), open("/sys/fs/cgroup/memory.max") as limit:  # noqa: PTH123
        found.append(int(limit.read()))
    return min(found)
