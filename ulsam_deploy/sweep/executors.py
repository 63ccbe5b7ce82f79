"""The executors of a sweep: local processes, or an existing Dask cluster. Both receive the same messages.

A task whose worker died is run again; after several such deaths it is given up, because it may be their cause. Both
kinds of pool do this by themselves.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future
from typing import Any, TypeVar

from ulsam_deploy.device.elsewhere.message import packed, performed, received, replied
from ulsam_deploy.device.errors import UnavailableError, UsageError
from ulsam_deploy.device.third_party import installed
from ulsam_deploy.device.types import Availability
from ulsam_deploy.exporting.workers import Pool, ending, local

Q = TypeVar("Q")
A = TypeVar("A")

#: The resource with which Dask's workers must be started, so that tasks can state their memory.
RESOURCE = "memory"


@contextlib.contextmanager
def executor(scheduler: str, workers: int, memory: int) -> Iterator[Pool]:
    """The executor of a sweep; on an error, and on Ctrl-C, waiting tasks are dropped and running ones are ended.

    Args:
        scheduler: The address of a Dask scheduler; empty: local processes.
        workers: The number of local processes.
        memory: The bytes that one task may use.
    """
    with _dask(scheduler, memory) if scheduler else local(workers) as pool:
        yield pool


def available() -> Availability:
    """Whether a cluster can be used: needs Dask's ``distributed``, in the same version as the cluster."""
    return installed("distributed", extra="dask")


@contextlib.contextmanager
def _dask(address: str, memory: int) -> Iterator[Pool]:
    here = available()
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
        pool = client.get_executor(pure=False, resources={RESOURCE: memory})
        with ending(pool):
            yield _Cluster(pool)


class _Cluster:
    """Dask's own executor with our messages: workers' answers are bytes, and nothing else is unpickled."""

    def __init__(self, pool: Executor) -> None:
        self._pool = pool

    def submit(self, function: Callable[[Q], A], request: Q, /) -> Future[A]:
        """Run ``function`` on one of the workers."""
        told: Future[A] = Future()

        def hand_on(answer: Future[bytes]) -> None:
            try:
                told.set_result(received(replied(function, io.BytesIO(answer.result()))))
            except BaseException as error:  # includes the cancellation when the cluster ends
                told.set_exception(error)

        self._pool.submit(performed, packed(function, request)).add_done_callback(hand_on)
        return told


def _check_workers(workers: Any, memory: int) -> None:
    """Raise :class:`UsageError` if no worker can ever take a task: Dask would silently wait for one."""
    offers = [worker.get("resources", {}).get(RESOURCE, 0) for worker in workers.values()]
    if offers and max(offers) >= memory:
        return
    raise UsageError(
        f"none of the scheduler's {len(offers)} workers has {memory} bytes of '{RESOURCE}' to give",
        expected="workers that say how much memory tasks may take, one thread each",
        todo=f"start them so: dask worker ADDRESS --nthreads 1 --resources 'memory={memory}'",
    )
