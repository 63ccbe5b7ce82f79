"""The share of the machine that this program takes: one thread in each process, and work split into independent parts.

The threads of one operator wait for each other by spinning. Where another program keeps a core busy, they wait for a
thread that does not run, and an export takes ten times as long. Threads and processes that do not wait for each other
get their fair share. Standard library only; device-safe.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping, MutableMapping

from ulsam_deploy.device.errors import UsageError

__all__ = ["at_once", "claim", "cores", "for_children", "memory", "unclaimed"]

#: How many cores this program may keep busy.
CORES = "ULSAM_DEPLOY_CORES"
#: Read by OpenMP, MKL and OpenBLAS, so by torch and numpy, when they are loaded.
_THREADS = "OMP_NUM_THREADS"


def claim(variables: MutableMapping[str, str] = os.environ) -> None:
    """Let torch and numpy, which must not be loaded yet, use one thread, unless the user has chosen a number.

    Raises :class:`UsageError` if the variable :data:`CORES` is not a number of cores.
    """
    here = cores(variables)
    if _THREADS not in variables:
        variables.update({_THREADS: "1", CORES: str(here)})


def unclaimed() -> dict[str, str]:
    """The variables of this process without what :func:`claim` set: for timing an engine as its users run it."""
    found = dict(os.environ)
    if CORES in found and found.get(_THREADS) == "1":
        del found[_THREADS]
    return found


def for_children(count: int = 1) -> dict[str, str]:
    """The variables for each of ``count`` processes that divide this program's cores among them."""
    found = dict(os.environ)
    claim(found)
    if CORES in found:
        found[CORES] = str(max(1, cores(found) // count))
    return found


def cores(variables: Mapping[str, str] = os.environ) -> int:
    """How many processes may compute at once: :data:`CORES`, or all cores that this process may run on.

    Raises :class:`UsageError` if the variable :data:`CORES` is not a number of cores.
    """
    chosen = variables.get(CORES)
    if chosen is None:
        return _here()
    if not (chosen.isdecimal() and int(chosen)):
        raise UsageError(f"{CORES} is '{chosen}'", expected="a number of cores, from 1 on", todo=f"unset {CORES}")
    return int(chosen)


def at_once() -> int:
    """How many independent parts of its work this process may compute at once: a user's ``OMP_NUM_THREADS`` counts."""
    threads = os.environ.get(_THREADS, "").partition(",")[0].strip()  # "4,2": a number for each level of nesting
    if CORES in os.environ or not threads.isdecimal():
        return cores()
    return max(1, int(threads))


def _here() -> int:
    """The cores that this process may run on, no more than its control group may use."""
    found = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with contextlib.suppress(OSError, ValueError), open("/sys/fs/cgroup/cpu.max") as limit:  # noqa: PTH123
        quota, period = map(int, limit.read().split())  # "max" is no number: no limit
        found = min(found, max(1, quota // period))
    return found


def memory() -> int:
    """The memory available here, in bytes: the smaller of the machine's and the control group's."""
    found = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")]
    with contextlib.suppress(OSError, ValueError, IndexError), open("/proc/meminfo") as lines:  # noqa: PTH123
        found.append(next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable")))
    with contextlib.suppress(OSError, ValueError), open("/sys/fs/cgroup/memory.max") as limit:  # noqa: PTH123
        found.append(int(limit.read()))
    return min(found)
