"""``--configure-device``: the highest clocks while it is measured, then everything as it was, whatever happens.

Standard library only; device-safe. Governors of the processor become ``performance``; on a Jetson ``jetson_clocks``
holds all clocks at what the power mode allows. The power mode itself stays: changing it may restart the board.

Who restores is a guardian, a process in a session of its own that waits for a pipe to close. The pipe closes when the
measurement ends, and as surely when its process is interrupted or killed.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from ulsam_deploy.device.bench.board import Board
from ulsam_deploy.device.errors import UnavailableError

__all__ = ["configured"]

#: Waits until nobody holds the pipe; then writes texts back, runs commands, and removes files. Says what failed.
_GUARDIAN = """\
import json, shutil, subprocess, sys
plan = json.loads(sys.stdin.readline())
print("ready", flush=True)
sys.stdin.read()
failed = []
for path, text in plan["texts"]:
    try:
        with open(path, "w") as file:
            file.write(text)
    except OSError as error:
        failed.append(f"{path}: {error.strerror}")
for words in plan["commands"]:
    try:
        code = subprocess.run(words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, timeout=60).returncode
    except (OSError, subprocess.SubprocessError) as error:
        code = str(error)
    if code:
        failed.append(" ".join(words) + f": {code}")
for folder in plan["remove"]:
    shutil.rmtree(folder, ignore_errors=True)
print(json.dumps(failed), flush=True)
"""


@contextlib.contextmanager
def configured(board: Board) -> Iterator[tuple[str, ...]]:
    """Raise the machine's clocks within the block; the sentences say what was changed.

    Raises :class:`UnavailableError` when something can't be changed (it takes root), or couldn't be restored.
    """
    governors = {path: board.text(path) for path in (f"{policy}/scaling_governor" for policy in board.policies())}
    previous = {path: word for path, word in governors.items() if word and word != "performance"}
    texts = [(str(board.root / path), word) for path, word in previous.items()]
    stored = _place() if board.is_jetson else None
    if not texts and stored is None:
        yield ()
        return
    with _guardian(texts, stored) as guardian:
        changed = []
        if stored:
            for words in (["jetson_clocks", "--store", str(stored)], ["jetson_clocks"]):
                if board.command(words) is None:
                    raise _refused(f"'{' '.join(words[:2])}' failed")
            changed.append("jetson_clocks holds all clocks at the power mode's highest")
        for path, word in previous.items():
            _write(board, path, "performance")
            changed.append(f"{path.split('/')[-2]}: governor performance instead of {word}")
        yield tuple(changed)
        failed = _restored(guardian)
    if failed:
        raise UnavailableError(f"not restored: {'; '.join(failed)}", todo="set it back by hand, or restart the machine")


def _place() -> Path:
    """Where to store clocks: not in ``TMPDIR``, which may be gone before they are restored."""
    where = "/tmp" if Path("/tmp").is_dir() else None
    return Path(tempfile.mkdtemp(prefix="ulsam-deploy-", dir=where), "clocks")


@contextlib.contextmanager
def _guardian(texts: list[tuple[str, str]], stored: Path | None) -> Iterator[subprocess.Popen[str]]:
    plan = {
        "texts": texts,
        "commands": [["jetson_clocks", "--restore", str(stored)]] if stored else [],
        "remove": [str(stored.parent)] if stored else [],
    }
    guardian = subprocess.Popen(
        [sys.executable, "-c", _GUARDIAN],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,  # Ctrl-C and a killed group don't reach it
    )
    assert guardian.stdin is not None
    assert guardian.stdout is not None
    try:
        guardian.stdin.write(json.dumps(plan) + "\n")
        guardian.stdin.flush()
        if guardian.stdout.readline() != "ready\n":
            raise UnavailableError(
                "no process could be left to restore the device", todo="leave --configure-device out"
            )
        yield guardian
    finally:
        with contextlib.suppress(OSError):
            guardian.stdin.close()
        guardian.wait(120)
        guardian.stdout.close()


def _restored(guardian: subprocess.Popen[str]) -> list[str]:
    """Let it restore now; what failed."""
    assert guardian.stdin is not None
    assert guardian.stdout is not None
    guardian.stdin.close()
    failed: list[str] = json.loads(guardian.stdout.readline() or '["it ended too early"]')
    return failed


def _write(board: Board, path: str, word: str) -> None:
    try:
        (board.root / path).write_text(word)
    except OSError as error:
        raise _refused(f"{path} can't be written: {error.strerror}") from error
    if board.text(path) != word:
        raise _refused(f"{path} is '{board.text(path)}' although '{word}' was written")


def _refused(found: str) -> UnavailableError:
    return UnavailableError(
        found, expected="a device whose clocks may be set", todo="run as root, or leave --configure-device out"
    )
