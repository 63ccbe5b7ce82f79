"""Runs the system's ``ssh`` to one host, without a shell, and explains its failures.

The user's own configuration, keys, agent and jump hosts apply, because the user's own ``ssh`` is run. The only
exception is the host key: an unknown key is refused, whatever the configuration says. There is never a prompt for a
password (``BatchMode``).
"""

from __future__ import annotations

import contextlib
import json
import re
import shlex
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from ulsam_deploy.boards.remote import board
from ulsam_deploy.device.errors import RefusedError, UlsamError, UnavailableError, UsageError

__all__ = ["Link", "StoppedError", "check_host"]

CONNECT_SECONDS = 15
#: A silent link is closed after three of these intervals; the host sends a byte to the board as often.
ALIVE_SECONDS = 10
#: How long a board may take to stop a job and clean up.
CLEAN_SECONDS = 30.0
#: The program that the board's Python is started with: it reads the rest of the program from stdin, before the files.
_FIRST = "import sys; exec(sys.stdin.buffer.read(int(sys.argv[1])))"
# A valid destination: an alias or [user@]name. Ports, keys, IPv6 and jump hosts belong in the configuration.
_HOST = re.compile(r"(?:[A-Za-z0-9_][A-Za-z0-9_.-]*@)?[A-Za-z0-9_][A-Za-z0-9_.-]*")


#: Bytes of one answer, the largest of which holds a result file, and of all together.
LONGEST, MOST = 128 << 20, 512 << 20


class StoppedError(UlsamError):
    """The user stopped the command."""


def check_host(host: str) -> str:
    """Return ``host`` if it is a plain destination; raises :class:`UsageError` otherwise."""
    if len(host) > 255 or not _HOST.fullmatch(host):
        raise UsageError(
            f"{host[:80]!a} is no host",
            expected="[user@]name, as in pi@kitchen",
            todo="put ports, IPv6 addresses and jump hosts into ~/.ssh/config under a Host name of their own",
        )
    return host


@dataclass
class Link:
    """One host. ``config`` is an ``ssh_config`` file instead of the user's; ``python`` the Python command there.

    Setting ``stop`` ends whatever waits, with :class:`StoppedError`.
    """

    host: str
    config: Path | None = None
    python: str = "python3"
    stop: threading.Event = field(default_factory=threading.Event)

    def talk(
        self, order: Mapping[str, Any], files: IO[bytes], hear: Callable[[dict[str, Any]], None], seconds: float
    ) -> None:
        """Let the board execute ``order`` (:mod:`.board`).

        Args:
            order: The job.
            files: Its files, as a tar stream.
            hear: Called with each answer of the board.
            seconds: The timeout.

        Raises:
            UnavailableError: The board can't be reached, has no Python, or the link was lost.
            RefusedError: A host key that isn't known.
            StoppedError: :attr:`stop` was set.
        """
        program = shutil.which("ssh")
        if program is None:
            raise UnavailableError("there is no 'ssh' here", todo="install OpenSSH's client")
        source = Path(board.__file__).read_bytes()
        remote = shlex.join([self.python, "-c", _FIRST, str(len(source)), json.dumps(order)])
        with tempfile.TemporaryFile() as said:
            # A session of its own: Ctrl-C must only reach this process, which then lets the board clean up.
            process = subprocess.Popen(
                [program, *self._options(), "-T", "--", self.host, remote],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=said, start_new_session=True,
            )  # fmt: skip
            assert process.stdin is not None
            assert process.stdout is not None
            over = threading.Event()
            threading.Thread(target=_feed, args=(process.stdin, source, files, over), daemon=True).start()
            hearer = _Hearer(process.stdout, self.host, hear)
            try:
                self._await(process, seconds)
            finally:
                over.set()  # this closes the board's input: it stops and cleans up
                try:
                    process.wait(CLEAN_SECONDS)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()
                hearer.join(5.0)
            if hearer.problem:
                raise hearer.problem
            said.seek(0)
            err = said.read().decode("utf-8", "replace")[-4000:]
        if process.returncode != 0 or not hearer.heard:
            raise self._failure(process.returncode, err, reached=hearer.heard)

    def _options(self) -> list[str]:
        settings = (
            *("BatchMode=yes", "StrictHostKeyChecking=yes", "ClearAllForwardings=yes"),
            *(f"ConnectTimeout={CONNECT_SECONDS}", f"ServerAliveInterval={ALIVE_SECONDS}"),
        )
        own = ["-F", str(self.config)] if self.config else []
        return own + [word for setting in settings for word in ("-o", setting)]

    def _await(self, process: subprocess.Popen[bytes], seconds: float) -> None:
        deadline, pause = time.monotonic() + seconds, 0.005
        while process.poll() is None:
            if time.monotonic() > deadline:
                raise UnavailableError(f"{self.host} did not answer within {seconds:.0f} s")
            if self.stop.wait(pause):
                raise StoppedError(f"{self.host}: stopped")
            pause = min(pause * 1.5, 0.1)

    def _failure(self, code: int, err: str, reached: bool) -> UlsamError:
        """The error for ssh's exit code (255: the link itself) and its messages."""
        low, words = err.lower(), _last_line(err)
        if "host key verification failed" in low or "remote host identification has changed" in low:
            return _host_key(self.host, changed="has changed" in low)
        if code == 127 or "command not found" in low:
            todo = "install Python 3.10 or newer there, or name it with --host-python"
            return UnavailableError(f"{self.host} has no '{self.python}'", expected="Python 3.10 or newer", todo=todo)
        if "permission denied (" in low or "too many authentication failures" in low:
            todo = f"make 'ssh {self.host} true' work without a password (ssh-copy-id, ssh-agent)"
            return UnavailableError(f"{self.host} does not let you in: {words}", todo=todo)
        if "no space left" in low:
            return UnavailableError(f"the disk of {self.host} is full: {words}", todo="free some space there")
        if code == 255:
            if reached:
                todo = "run the command again: the job there stops by itself within a minute, and leaves nothing"
                return UnavailableError(f"the link to {self.host} is lost: {words}", todo=todo)
            todo = f"look whether 'ssh {self.host} true' works"
            return UnavailableError(f"{self.host} can't be reached: {words}", todo=todo)
        return UnavailableError(f"{self.host}: {words}", expected="a POSIX system with Python 3.10 or newer")


def _feed(stdin: IO[bytes], source: bytes, files: IO[bytes], over: threading.Event) -> None:
    """Write everything, then a byte now and then as a sign of life, until it is ``over``."""
    with contextlib.suppress(OSError, ValueError), stdin:  # if ssh no longer reads, it reports the reason itself
        files.seek(0)
        stdin.write(source)
        shutil.copyfileobj(files, stdin)
        stdin.flush()
        while not over.wait(ALIVE_SECONDS):
            stdin.write(b"\0")
            stdin.flush()


class _Hearer(threading.Thread):
    """Passes on the answers in a stream as they arrive; ``heard``: whether there was one."""

    def __init__(self, stream: IO[bytes], host: str, hear: Callable[[dict[str, Any]], None]) -> None:
        super().__init__(daemon=True)
        self._stream, self._host, self._hear = stream, host, hear
        self.heard, self.problem = False, None  # type: bool, UlsamError | None
        self.start()

    def run(self) -> None:
        total = 0
        with self._stream:
            while raw := self._stream.readline(LONGEST + 1):
                total += len(raw)
                if len(raw) > LONGEST or total > MOST:  # closing the stream ends the link
                    self.problem = UnavailableError(f"{self._host} said more than {LONGEST >> 20} MiB at once")
                    return
                text = raw.decode("utf-8", "replace")
                if text.startswith(board.MARK) and self.problem is None:
                    self.heard = True
                    try:
                        self._hear(_answer(text, self._host))
                    except UlsamError as error:
                        self.problem = error


def _answer(text: str, host: str) -> dict[str, Any]:
    try:
        found = json.loads(text[len(board.MARK) :])
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict) or not {"state", "text"} & found.keys():
        raise UnavailableError(f"{host} gave an answer that makes no sense: {text[:200]!a}")
    return found


def _host_key(host: str, changed: bool) -> RefusedError:
    if changed:
        return RefusedError(
            f"{host} shows another host key than the one you know",
            expected="the key in your known_hosts: a new installation has another one, and so has an impostor",
            todo=f"ask whoever keeps the board; if its new key is right: ssh-keygen -R {host.rpartition('@')[2]}",
        )
    return RefusedError(
        f"the host key of {host} isn't known",
        expected="a key in your known_hosts: an unknown one could be anybody's",
        todo=f"run 'ssh {host}' once yourself, and compare the fingerprint with the board's",
    )


def _last_line(err: str) -> str:
    lines = [line.strip() for line in err.splitlines() if line.strip()]
    return lines[-1] if lines else "it said nothing"
