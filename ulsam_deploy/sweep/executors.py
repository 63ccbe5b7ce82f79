"""Who does the work: processes of this machine, or an existing Dask cluster. Both are ``concurrent.futures`` executors.

A task that was lost with its worker is handed out again; one that was lost with :data:`LIVES` workers is given up, for
it may be what kills them. Both kinds of executor do so by themselves.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from multiprocessing.connection import Connection
from typing import Any, TypeVar

from ulsam_deploy.errors import UlsamError, UnavailableError, UsageError
from ulsam_deploy.third_party import installed

T = TypeVar("T")

#: A task may take so many workers with it before it is given up (Dask's ``allowed-failures`` has the same default).
LIVES = 4
#: What Dask's workers have to be started with, so that memory can be stated.
RESOURCE = "memory"


class LostError(UlsamError):
    """A worker died, several times, while it had this task."""


class LocalExecutor(Executor):
    """``workers`` processes of this machine, each with one task at a time; a dead one takes only its own task along."""

    def __init__(self, workers: int) -> None:
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
        for _ in range(LIVES):
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
            f"{LIVES} workers died with this task, the last one {how}",
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
        for process in processes:
            process.end()
        self._threads.shutdown(wait=wait)


class _Process:
    """One worker process and the line to it."""

    def __init__(self, cores: int) -> None:
        context = multiprocessing.get_context("spawn")  # torch must not be forked
        self._ending = threading.Lock()
        self._line, there = context.Pipe()
        self._process = context.Process(target=_serve, args=(there, cores), name="ulsam-deploy sweep")
        self._process.start()
        there.close()

    def call(self, fn: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        """The result of one call there, or its exception; raises :class:`EOFError` when the process dies over it."""
        try:
            self._line.send((fn, args, kwargs))
            good, value = self._line.recv()
        except OSError as error:
            raise EOFError from error
        if good:
            return value
        raise value

    def end(self) -> int | None:
        """Kill the process, where it lives; its exit code.

        From any thread. The line is left to the thread that reads it: it finds its end, and drops it.
        """
        with self._ending:
            self._process.kill()
            self._process.join()
            return self._process.exitcode


def _serve(line: Connection, cores: int) -> None:
    """A worker's life: calls come, results go, until the line is cut."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the one who hands out
    os.environ["OMP_NUM_THREADS"] = str(cores)
    while True:
        try:
            fn, args, kwargs = line.recv()
        except EOFError:
            return
        except Exception as error:  # a task that cannot be unpickled here, such as one from a module that is not found
            line.send((False, RuntimeError(f"the task cannot be read here: {error}")))
            continue
        try:
            answer = (True, fn(*args, **kwargs))
        except Exception as error:
            answer = (False, error)
        try:
            line.send(answer)
        except OSError:  # nobody waits for it any more
            return
        except Exception as error:  # what cannot be pickled is told in words
            line.send((False, RuntimeError(f"{answer[1]!r:.300} cannot be sent: {error}")))


@contextlib.contextmanager
def executor(scheduler: str, workers: int, memory: int) -> Iterator[Executor]:
    """Dask's at the address ``scheduler``, else ``workers`` local processes; ``memory``: bytes that a task may take.

    On an error, and on Ctrl-C, what is waiting is dropped and what is running is ended.
    """
    made = _dask(scheduler, memory) if scheduler else contextlib.nullcontext(LocalExecutor(workers))
    with made as pool:
        try:
            yield pool
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
        pool.shutdown()


def local_workers(asked: int | None, memory: int) -> int:
    """How many local processes: as many as asked for, else one a core, but only as many as ``memory`` allows."""
    cores = len(os.sched_getaffinity(0))
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


@contextlib.contextmanager
def _dask(address: str, memory: int) -> Iterator[Executor]:
    here = installed("distributed", extra="dask")
    if not here.usable:
        raise UnavailableError(f"--scheduler needs Dask: {here.detail}", todo=here.todo)
    from distributed import Client

    try:
        client = Client(address, timeout=10, set_as_default=False)
    except (OSError, ValueError) as error:
        raise UnavailableError(
            f"no Dask scheduler answers at '{address}': {str(error) or type(error).__name__}",
            expected="a scheduler on a network that you trust, such as tcp://host:8786",
        ) from error
    with client:
        _check_workers(client.scheduler_info(n_workers=-1)["workers"], memory)
        yield client.get_executor(pure=False, resources={RESOURCE: memory})


def _check_workers(workers: Any, memory: int) -> None:
    """Raise :class:`UsageError` where no worker could ever take a task: Dask would wait for one without a word."""
    offers = [worker.get("resources", {}).get(RESOURCE, 0) for worker in workers.values()]
    if offers and max(offers) >= memory:
        return
    raise UsageError(
        f"none of the scheduler's {len(offers)} workers has {memory} bytes of '{RESOURCE}' to give",
        expected="workers that say how much memory tasks may take, one thread each",
        todo=f"start them so: dask worker ADDRESS --nthreads 1 --resources 'memory={memory}'",
    )
