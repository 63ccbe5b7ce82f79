"""A process that can only read: no writing outside one folder, no other programs, no network.

Linux has what this needs for every user: Landlock (from 5.13 on; ports from 6.7 on) and seccomp. Where it hasn't, the
process runs without, and what it reports says so. Both hold for all threads that start later and for all children, and
cannot be taken off again. Reading is not restricted: an engine reads its own libraries from many places. Landlock
doesn't know the owner, mode and times of a file, which can still be changed where the user may change them.
Standard library only; device-safe.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from ulsam_deploy.device.errors import UnavailableError
from ulsam_deploy.device.findings import EngineFacts

__all__ = ["MODES", "enter", "level", "noted"]

#: ``auto``: as much as this system has; ``require``: everything, or nothing is opened; ``off``: none.
MODES = ("auto", "require", "off")
NONE = "none"  # asked for, and not possible here

_PR_SET_NO_NEW_PRIVS, _PR_SET_SECCOMP, _FILTER = 38, 22, 2
_CREATE, _ADD_RULE, _RESTRICT = 444, 445, 446  # the same on every architecture
#: Rights of Landlock by the version that has them: executing, and each way to change something.
_EXECUTE, _WRITE_FILE = 1 << 0, 1 << 1
_CHANGES = _WRITE_FILE | sum(1 << bit for bit in range(4, 13))
_REFER, _TRUNCATE = 1 << 13, 1 << 14
_PORTS, _SCOPES = 0b11, 0b11
#: AUDIT_ARCH, and the numbers of ``socket`` and ``io_uring_setup`` (which makes sockets as well), by machine.
_ARCHITECTURES = {"x86_64": (0xC000003E, 41, 425), "aarch64": (0xC00000B7, 198, 425)}

_level = ""


def level() -> str:
    """How this process is restricted; ``none`` if this system can't, empty if nobody asked for it."""
    return _level


def noted(facts: EngineFacts) -> EngineFacts:
    """``facts`` with the :func:`level` of the process in which the engine ran, if one was asked for."""
    return replace(facts, details={**facts.details, "jail": _level}) if _level else facts


def enter(mode: str, folder: Path) -> None:
    """Restrict this process to reading, and to writing below ``folder`` and to devices.

    Args:
        mode: One of :data:`MODES`.
        folder: Where it may write.

    Raises:
        UnavailableError: ``mode`` is ``require``, and this system lacks a part of it.
    """
    global _level
    if mode == "off":
        return
    parts, lacking = [], []
    steps: dict[str, Callable[[], str]] = {"files": lambda: _files(folder), "network": _network}
    for name, step in steps.items():
        try:
            parts.append(step())
        except (OSError, AttributeError) as error:
            lacking.append(f"{name} ({getattr(error, 'strerror', None) or error})")
    if mode == "require" and lacking:
        raise UnavailableError(
            f"this system cannot restrict a process: {', '.join(lacking)}",
            expected="Linux 5.13 or newer with Landlock and seccomp",
            todo="check the bundle there, or allow less with --jail auto",
        )
    _level = ", ".join(parts) or NONE


def _files(folder: Path) -> str:
    """Take the rights to change files, to start programs and, where Landlock knows them, to use ports and signals."""
    version = _call(_CREATE, None, 0, 1)
    changes = _CHANGES | (_REFER if version >= 2 else 0) | (_TRUNCATE if version >= 3 else 0)
    ports, scopes = _PORTS if version >= 4 else 0, _SCOPES if version >= 6 else 0
    size = 24 if version >= 6 else 16 if version >= 4 else 8
    ruleset = _call(
        _CREATE, ctypes.create_string_buffer(struct.pack("<QQQ", changes | _EXECUTE, ports, scopes)), size, 0
    )
    try:
        for place, allowed in ((folder, changes), (Path("/dev"), _WRITE_FILE)):
            handle = os.open(place, os.O_PATH | os.O_CLOEXEC)
            try:
                rule = ctypes.create_string_buffer(struct.pack("<Qi", allowed, handle))
                _call(_ADD_RULE, ruleset, 1, rule, 0)
            finally:
                os.close(handle)
        _no_new_rights()
        _call(_RESTRICT, ruleset, 0)
    finally:
        os.close(ruleset)
    return f"files (Landlock {version})"


def _network() -> str:
    """Refuse to make sockets, by a filter: the number of a system call comes in, and what to do with it goes out."""
    machine = platform.machine()
    if sys.platform != "linux" or machine not in _ARCHITECTURES or sys.maxsize < 2**32:
        raise OSError(errno.ENOSYS, f"no filter for {machine}")
    architecture, socket, uring = _ARCHITECTURES[machine]
    load, equal, most, give = 0x20, 0x15, 0x35, 0x06
    allow, refuse = 0x7FFF0000, 0x00050000 | errno.EACCES
    program = [
        (load, 0, 0, 4), (equal, 0, 5, architecture),
        (load, 0, 0, 0), (most, 2, 0, 0x40000000), (equal, 1, 0, uring), (equal, 0, 1, socket),
        (give, 0, 0, refuse), (give, 0, 0, allow),
    ]  # fmt: skip
    code = ctypes.create_string_buffer(b"".join(struct.pack("<HBBI", *one) for one in program))
    whole = ctypes.create_string_buffer(struct.pack("<HxxxxxxQ", len(program), ctypes.addressof(code)))
    _no_new_rights()
    _prctl(_PR_SET_SECCOMP, _FILTER, ctypes.addressof(whole))
    return "network (seccomp)"


def _no_new_rights() -> None:
    _prctl(_PR_SET_NO_NEW_PRIVS, 1, 0)


def _prctl(option: int, second: int, third: int) -> None:
    _checked(
        _libc().prctl(option, ctypes.c_ulong(second), ctypes.c_void_p(third), ctypes.c_ulong(0), ctypes.c_ulong(0))
    )


def _call(number: int, *arguments: object) -> int:
    return _checked(_libc().syscall(ctypes.c_long(number), *arguments))


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _checked(result: int) -> int:
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result
