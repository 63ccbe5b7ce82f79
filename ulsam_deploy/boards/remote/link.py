"""The system's ``ssh`` and ``scp`` to one host, by argument lists, and what their failures mean in plain words.

The user's own configuration, keys, agent and jump hosts apply, because it is the user's own ``ssh`` that runs. Only the
host key is not theirs to wave through: a key that isn't known is refused, whatever the configuration says. Nothing ever
asks for a password (``BatchMode``).
"""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from ulsam_deploy.boards.remote import board
from ulsam_deploy.device.errors import RefusedError, UlsamError, UnavailableError, UsageError

__all__ = ["Link", "LinkLostError", "StoppedError", "check_host"]

CONNECT_SECONDS = 15
#: A silent link is given up after three of these.
ALIVE_SECONDS = 10
# What a destination may look like: an alias or [user@]name. Ports, keys, IPv6 and jumps belong in the configuration.
_HOST = re.compile(r"(?:[A-Za-z0-9_][A-Za-z0-9_.-]*@)?[A-Za-z0-9_][A-Za-z0-9_.-]*")
# Folders that mean the same to every shell and to scp.
_PLAIN = re.compile(r"/[A-Za-z0-9_./-]+")


class LinkLostError(UnavailableError):
    """The link was there and is gone; what runs on the board goes on."""


class StoppedError(UlsamError):
    """The user stopped the command."""


def check_host(host: str) -> str:
    """``host`` itself when it is a plain destination; raises :class:`UsageError`."""
    if not _HOST.fullmatch(host):
        raise UsageError(
            f"{host!a} is no host",
            expected="[user@]name, as in pi@kitchen",
            todo="put ports, IPv6 addresses and jump hosts into ~/.ssh/config under a Host name of their own",
        )
    return host


@dataclass
class Link:
    """One host. ``config`` is an ``ssh_config`` file in place of the user's; ``python`` the word for Python there.

    ``stop`` ends whatever waits, with :class:`StoppedError`.
    """

    host: str
    config: Path | None = None
    python: str = "python3"
    stop: threading.Event = field(default_factory=threading.Event)
    reached: bool = False

    def call(
        self, verb: str, *words: str, seconds: float = 60.0, each: Callable[[dict[str, object]], None] | None = None
    ) -> dict[str, Any]:
        """Let the board do one verb of :mod:`.board`; the last answer, ``each`` of them on its way.

        Raises :class:`UnavailableError`, :class:`LinkLostError` or :class:`RefusedError` (a host key that isn't known).
        """
        remote = shlex.join([self.python, "-", verb, *words])
        last: list[dict[str, Any]] = []

        def line(text: str) -> None:
            if text.startswith(board.MARK):
                last[:] = [_answer(text, self.host)]
                self.reached = True
                if each:
                    each(last[0])

        source = Path(board.__file__).read_bytes()
        code, err = self._spoken(["ssh", *self._options(), "-T", "--", self.host, remote], source, line, seconds)
        if code != 0 or not last:
            raise self._failure(code, err)
        return last[0]

    def send(self, folder: Path, place: str, seconds: float) -> None:
        """Copy what lies in ``folder`` to the folder ``place`` of the board; links are followed."""
        if not _PLAIN.fullmatch(place):
            raise UnavailableError(f"{self.host}: its temporary folder has an unusual name: {place!a}")
        sources = [str(path.absolute()) for path in sorted(folder.iterdir())]
        words = ["scp", *self._options(), "-q", "-r", "--", *sources, f"{self.host}:{place}/"]
        code, err = self._spoken(words, b"", lambda _: None, seconds)
        if code != 0:
            raise self._failure(255 if "lost connection" in err.lower() else code, err)

    def _options(self) -> list[str]:
        settings = (
            *("BatchMode=yes", "StrictHostKeyChecking=yes", "ClearAllForwardings=yes"),
            *(f"ConnectTimeout={CONNECT_SECONDS}", f"ServerAliveInterval={ALIVE_SECONDS}"),
        )
        own = ["-F", str(self.config)] if self.config else []
        return own + [word for setting in settings for word in ("-o", setting)]

    def _spoken(
        self, words: Sequence[str], source: bytes, line: Callable[[str], None], seconds: float
    ) -> tuple[int, str]:
        """Run ``words`` and hear its lines; its exit code and the end of its stderr."""
        program = shutil.which(words[0])
        if program is None:
            raise UnavailableError(f"there is no '{words[0]}' here", todo="install OpenSSH's client")
        with tempfile.TemporaryFile() as said, tempfile.TemporaryFile() as fed:
            fed.write(source)
            fed.seek(0)
            # A session of its own: Ctrl-C is for us, who then use the link once more to clean up.
            process = subprocess.Popen(
                [program, *words[1:]], stdin=fed, stdout=subprocess.PIPE, stderr=said, start_new_session=True
            )
            assert process.stdout is not None
            hearer = _Hearer(process.stdout, line)
            try:
                self._await(process, seconds)
                hearer.join(5.0)
            finally:
                if process.poll() is None:
                    process.kill()
                    process.wait()
                process.stdout.close()
            if hearer.problem:
                raise hearer.problem
            said.seek(0)
            return process.returncode, said.read().decode("utf-8", "replace")[-4000:]

    def _await(self, process: subprocess.Popen[bytes], seconds: float) -> None:
        deadline, pause = time.monotonic() + seconds, 0.005
        while process.poll() is None:
            if time.monotonic() > deadline:
                raise LinkLostError(f"{self.host} did not answer within {seconds:.0f} s")
            if self.stop.wait(pause):
                raise StoppedError(f"{self.host}: stopped")
            pause = min(pause * 1.5, 0.1)

    def _failure(self, code: int, err: str) -> UlsamError:
        """What went wrong, from ssh's exit code (255: the link itself) and its own words."""
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
            if self.reached:
                return LinkLostError(f"the link to {self.host} is lost: {words}")
            todo = f"look whether 'ssh {self.host} true' works"
            return UnavailableError(f"{self.host} can't be reached: {words}", todo=todo)
        return UnavailableError(f"{self.host}: {words}", expected="a POSIX system with Python 3.10 or newer")


class _Hearer(threading.Thread):
    """Hands on the lines of a stream as they come."""

    def __init__(self, stream: IO[bytes], line: Callable[[str], None]) -> None:
        super().__init__(daemon=True)
        self.stream, self.line = stream, line
        self.problem: UlsamError | None = None
        self.start()

    def run(self) -> None:
        try:
            for raw in self.stream:
                self.line(raw.decode("utf-8", "replace"))
        except UlsamError as error:
            self.problem = error
        except ValueError:  # closed while we read: whoever closed it says why
            pass


def _answer(text: str, host: str) -> dict[str, Any]:
    try:
        found = json.loads(text[len(board.MARK) :])
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict) or not isinstance(found.get("state"), str):
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
