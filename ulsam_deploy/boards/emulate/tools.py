"""The host's programs that emulation needs: which are here, and what to install. Standard library only."""

from __future__ import annotations

import platform
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from ulsam_deploy.device.errors import UnavailableError

#: Debian's architecture, qemu's program and the C library's folder name, by ``uname -m``.
DEBIAN = {"aarch64": "arm64", "armv7l": "armhf"}
QEMU = {"aarch64": "qemu-aarch64", "armv7l": "qemu-arm"}
TRIPLET = {"aarch64": "aarch64-linux-gnu", "armv7l": "arm-linux-gnueabihf"}

#: Runs this tool in the container of ``Dockerfile``, which has everything that emulation needs.
CONTAINER = 'docker run --rm --volume "$PWD:/work" ulsam-deploy'
#: The timeout of a program that fetches something, in seconds.
PATIENCE = 900


def find(program: str, package: str) -> str:
    """The path of ``program``; raises an :class:`UnavailableError` that names its Debian package."""
    if platform.system() != "Linux":
        raise UnavailableError(
            f"boards are emulated on Linux only, this is {platform.system()}", todo="use a Linux host"
        )
    found = shutil.which(program)
    if found is None:
        raise UnavailableError(
            f"'{program}' isn't installed here, and emulating a board needs it",
            todo=f"apt-get install {package} (on another distribution: the package that has {program})",
        )
    return found


def qemu(machine: str) -> str:
    """qemu's user mode for ``machine`` (``uname -m``); raises :class:`UnavailableError` if it isn't installed."""
    return find(QEMU[machine], "qemu-user")


def qemu_version(program: str) -> tuple[int, int]:
    """Major and minor version of a qemu; (0, 0) if it doesn't report them."""
    said = subprocess.run([program, "--version"], capture_output=True, text=True).stdout
    match = re.search(r"version (\d+)\.(\d+)", said)
    return (int(match[1]), int(match[2])) if match else (0, 0)


def check_model(program: str, cpu: str, board: str) -> None:
    """Raise :class:`UnavailableError` for a qemu that does not know the processor: that of Ubuntu 22.04 lacks some."""
    known = subprocess.run([program, "-cpu", "help"], capture_output=True, text=True).stdout.split()
    if cpu not in known:
        version = ".".join(map(str, qemu_version(program)))
        raise UnavailableError(
            f"{board} can't be emulated here: qemu {version} has no model of the {cpu}",
            expected="a newer qemu-user, such as that of Debian 12 or Ubuntu 24.04",
            todo=f"{CONTAINER} verify BUNDLE --device {board}",
        )


def fetch(command: Sequence[str | Path], doing: str, todo: str, env: Mapping[str, str] | None = None) -> str:
    """Run a program that fetches or unpacks; returns its stdout.

    Raises :class:`UnavailableError` with the program's own error.
    """
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=PATIENCE, env=env)
    except subprocess.TimeoutExpired as error:
        raise UnavailableError(f"{doing} took more than {PATIENCE} s", todo=todo) from error
    if done.returncode:
        said = [line for line in done.stderr.splitlines() if line.strip()]
        worst = [line for line in said if re.match(r"(E|ERROR|error)\b", line)] or said or ["it gave no reason"]
        raise UnavailableError(f"{doing} failed: {worst[-1].strip()}", todo=todo)
    return done.stdout
