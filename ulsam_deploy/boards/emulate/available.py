"""Checks whether boards can be emulated here, without making anything; reports all that is missing at once."""

from __future__ import annotations

import shutil
import sys
from importlib import metadata

from ulsam_deploy.boards.emulate import plugin, tools
from ulsam_deploy.boards.emulate.machine import profile_of
from ulsam_deploy.boards.emulate.sysroot import entry_of, release_for
from ulsam_deploy.device.errors import UnavailableError, UsageError
from ulsam_deploy.device.types import Availability

__all__ = ["counting", "verifying"]


def verifying(board: str) -> Availability:
    """Whether artifacts can be run on ``board``.

    Args:
        board: A device profile with an ARM side.

    Returns:
        qemu's version and the source of the board's software; or every program that is missing.
    """
    profile = profile_of(board)
    try:
        name, _ = release_for(profile, board)
    except UsageError as error:
        return Availability(False, error.found, error.todo)
    made = entry_of(profile, board).is_dir()
    # The programs that fetch the board's software are only needed once.
    programs = {tools.QEMU[profile.machine]: "qemu-user", **({} if made else {"apt-get": "apt", "dpkg-deb": "dpkg"})}
    if (missing := _missing(programs)) is not None:
        return missing
    if not made and not _has_pip():
        return Availability(False, "this Python has no pip", f"{sys.executable} -m ensurepip")
    try:
        tools.check_model(tools.qemu(profile.machine), profile.cpu, board)
    except UnavailableError as error:
        return Availability(False, error.found, error.todo)
    version = ".".join(map(str, tools.qemu_version(tools.qemu(profile.machine))))
    software = "software in the cache" if made else "software is fetched on first use (about 250 MB)"
    return Availability(True, f"qemu {version}, {name}: {software}")


def counting(board: str) -> Availability:
    """Whether the instructions of ``board`` can be counted: emulation, a qemu with plugins, and a C compiler."""
    here = verifying(board)
    if not here.usable:
        return here
    if (missing := _missing({"cc": "gcc libc6-dev"})) is not None:
        return missing
    try:
        plugin.check(tools.qemu(profile_of(board).machine))
    except UnavailableError as error:
        return Availability(False, error.found, error.todo)
    return Availability(True, f"{here.detail}; {shutil.which('cc')}")


def _missing(programs: dict[str, str]) -> Availability | None:
    """What must be installed, by program and Debian package; ``None`` if all are here."""
    absent = {program: package for program, package in programs.items() if shutil.which(program) is None}
    if not absent:
        return None
    packages = " ".join(dict.fromkeys(absent.values()))
    return Availability(False, f"not installed: {', '.join(absent)}", f"sudo apt-get install {packages}")


def _has_pip() -> bool:
    """Whether this Python has pip. Looking for its module would start the hook of setuptools, which may warn."""
    try:
        metadata.distribution("pip")
    except metadata.PackageNotFoundError:
        return False
    return True
