"""A board that is this machine: a real sshd on loopback with keys, known hosts and a temporary folder of its own."""

from __future__ import annotations

import contextlib
import getpass
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from .... import needs


def pytest_itemcollected(item: pytest.Item) -> None:
    """Every test with a board."""
    if "boards" in getattr(item, "fixturenames", ()):
        item.add_marker(pytest.mark.needs("ssh", "ssh-keygen", "sshd", "ps"))


SERVER = """\
Port {port}
ListenAddress 127.0.0.1
HostKey {root}/host_key
AuthorizedKeysFile {root}/authorized_keys
PidFile none
UsePAM no
StrictModes no
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin prohibit-password
SetEnv TMPDIR={tmp} PATH={path}
Subsystem sftp internal-sftp
"""
CLIENT = """\
Host {name}
    HostName 127.0.0.1
    Port {port}
    User {user}
    IdentityFile {root}/key
    IdentitiesOnly yes
    HostKeyAlias {name}
    UserKnownHostsFile {root}/known_hosts
    GlobalKnownHostsFile none
    StrictHostKeyChecking no
    ControlPath none
"""


@dataclass
class Board:
    """A running sshd: ``config`` is what its client needs, ``tmp`` the temporary folder of who logs in."""

    name: str
    root: Path
    port: int
    server: subprocess.Popen[bytes]

    @property
    def config(self) -> Path:
        return self.root / "ssh_config"

    @property
    def tmp(self) -> Path:
        return self.root / "tmp"

    def sessions(self) -> list[int]:
        """The process of every connection: what dies when a link is lost."""
        listed = subprocess.run(["ps", "-o", "pid=", "--ppid", str(self.server.pid)], capture_output=True, text=True)
        return [int(word) for word in listed.stdout.split()]

    def cut(self) -> None:
        """Lose every link."""
        for session in self.sessions():
            for process in (*_children(session), session):
                with contextlib.suppress(ProcessLookupError):  # it went by itself
                    os.kill(process, signal.SIGKILL)

    def left(self) -> list[str]:
        """What lies in its temporary folder."""
        return sorted(path.name for path in self.tmp.iterdir())


def _children(pid: int) -> list[int]:
    listed = subprocess.run(["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True)
    found = [int(word) for word in listed.stdout.split() if _program(int(word)) == "sshd"]
    return [process for child in found for process in (*_children(child), child)]


def _program(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip().split("-")[0]
    except OSError:
        return ""


def _keygen(path: Path) -> None:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", str(path)], check=True)


def start_board(root: Path, name: str) -> Board:
    """Start an sshd and wait until it listens."""
    (root / "tmp").mkdir(parents=True)
    _keygen(root / "host_key")
    _keygen(root / "key")
    shutil.copy(root / "key.pub", root / "authorized_keys")
    (root / "known_hosts").write_text(f"{name} {(root / 'host_key.pub').read_text()}")
    if os.getuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    words = {"port": port, "root": root, "tmp": root / "tmp", "name": name, "user": getpass.getuser()}
    path = f"{Path(sys.executable).parent}:/usr/bin:/bin"
    (root / "sshd_config").write_text(SERVER.format(**words, path=path))
    (root / "ssh_config").write_text(CLIENT.format(**words))
    with (root / "sshd.log").open("wb") as log:
        command = [str(needs.where("sshd")), "-D", "-e", "-f", str(root / "sshd_config")]
        server = subprocess.Popen(command, stderr=log)
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return Board(name, root, port, server)
        assert server.poll() is None, (root / "sshd.log").read_text()
        time.sleep(0.02)
    raise AssertionError((root / "sshd.log").read_text())


@pytest.fixture
def boards(tmp_path: Path) -> Iterator[Callable[[str], Board]]:
    """``boards(name)`` starts one more."""
    running: list[Board] = []

    def start(name: str) -> Board:
        running.append(start_board(tmp_path / name, name))
        return running[-1]

    yield start
    for board in running:
        board.cut()
        board.server.terminate()
        board.server.wait(10)


@pytest.fixture
def kitchen(boards: Callable[[str], Board]) -> Board:
    return boards("kitchen")
