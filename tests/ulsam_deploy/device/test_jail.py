"""An engine's process can only read: writes, programs and sockets are refused, and the evidence says so."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from ulsam_deploy.cli import main
from ulsam_deploy.device.elsewhere import jail, job
from ulsam_deploy.device.elsewhere.limits import Limits
from ulsam_deploy.device.elsewhere.message import received
from ulsam_deploy.device.elsewhere.worker import Worker
from ulsam_deploy.device.errors import Exit, UnavailableError

from ..handmade import make_bundle

JAILED = Limits(60, 4 << 30, "require")


@dataclass(frozen=True)
class Outside:
    """A folder that is not the process's own."""

    folder: Path


@dataclass(frozen=True)
class Tried:
    """What was possible, by name, and the level that the process was told."""

    possible: tuple[str, ...]
    level: str


def everything(outside: Outside) -> Tried:
    """Try to do harm in each way."""
    own = Path(tempfile.gettempdir())
    attempts: dict[str, Callable[[], object]] = {
        "change mode": lambda: (outside.folder / "there").chmod(0o600),
        "change times": lambda: os.utime(outside.folder / "there"),
        "write outside": lambda: (outside.folder / "new").write_text("x"),
        "change outside": lambda: (outside.folder / "there").open("r+").close(),
        "truncate outside": lambda: os.truncate(outside.folder / "there", 0),
        "remove outside": lambda: (outside.folder / "there").unlink(),
        "make a folder outside": lambda: (outside.folder / "x").mkdir(),
        "link outside": lambda: (outside.folder / "l").symlink_to("/etc"),
        "rename to outside": lambda: (own / "mine").rename(outside.folder / "moved"),
        "start a program": lambda: subprocess.run(["/bin/true"], check=True),
        "a TCP socket": lambda: socket.socket(),
        "a UDP socket": lambda: socket.socket(socket.AF_INET6, socket.SOCK_DGRAM),
        "a local socket": lambda: socket.socket(socket.AF_UNIX),
        "a signal to the parent": lambda: os.kill(os.getppid(), 0),
        "read": lambda: Path("/etc/passwd").read_bytes(),
        "write its own": lambda: (own / "mine").write_text("x"),
        "write to a device": lambda: Path(os.devnull).write_text("x"),
        "end its child": lambda: os.kill(_child(), signal.SIGKILL),
    }
    possible = []
    for name, attempt in attempts.items():
        try:
            attempt()
        except OSError:
            continue
        possible.append(name)
    return Tried(tuple(possible), jail.level())


def _child() -> int:
    child = os.fork()
    if child == 0:
        signal.pause()
    return child


POSSIBLE = ("change mode", "change times", "read", "write its own", "write to a device", "end its child")


@pytest.fixture
def outside(tmp_path: Path) -> Outside:
    (tmp_path / "there").write_text("mine")
    return Outside(tmp_path)


@pytest.fixture(autouse=True)
def _possible_here() -> None:
    try:
        job.do(everything, Outside(Path("/")), replace(JAILED, seconds=60), "a look")
    except UnavailableError as error:
        pytest.skip(str(error))


def test_a_job_can_only_read(outside: Outside) -> None:
    tried = job.do(everything, outside, JAILED, "the harm")
    assert tried.possible == POSSIBLE
    assert "Landlock" in tried.level
    assert "seccomp" in tried.level
    assert {path.name: path.read_text() for path in outside.folder.iterdir()} == {"there": "mine"}


def test_a_worker_can_only_read(outside: Outside) -> None:
    with Worker(JAILED, quiet=True) as worker:
        assert received(worker.ask(everything, outside, "the harm")).possible == POSSIBLE
        assert received(worker.ask(everything, outside, "the harm")).possible == POSSIBLE


def test_without_it_all_of_that_is_possible(outside: Outside) -> None:
    """Or the tests above would show nothing."""
    tried = job.do(everything, outside, replace(JAILED, jail="off"), "the harm")
    assert set(POSSIBLE) < set(tried.possible)
    assert {"write outside", "start a program", "a TCP socket", "a signal to the parent"} < set(tried.possible)
    assert tried.level == ""


@pytest.mark.parametrize(("mode", "level"), [("auto", "network (seccomp)"), ("require", "")])
def test_a_system_without_landlock(tmp_path: Path, mode: str, level: str) -> None:
    """In a process of its own, because it cannot be undone."""
    code = (
        "import errno, sys; from pathlib import Path; from ulsam_deploy.device.elsewhere import jail\n"
        "def lacks(folder): raise OSError(errno.ENOSYS, 'Function not implemented')\n"
        f"jail._files = lacks; jail.enter({mode!r}, Path('.')); print(jail.level())"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
    done = subprocess.run(["python3", "-c", code], capture_output=True, text=True, env=environment, check=False)
    assert done.stdout.strip() == level
    assert ("files (Function not implemented)" in done.stderr) == (mode == "require")


def test_each_engine_runs_in_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bundle = make_bundle(tmp_path / "dense.bundle", width=16, batch=1).root
    assert main(["verify", str(bundle), "--jail", "require", "--json"]) == Exit.OK
    found = json.loads(capsys.readouterr().out)["artifacts"]
    assert len(found) == 3
    assert all("Landlock" in one["evidence"]["engine"]["details"]["jail"] for one in found)
    quick = ("--profile", "quick", "--rounds", "1", "--jail", "require", "--json")
    assert main(["bench", str(bundle), "--target", "onnx", *quick]) in (Exit.OK, Exit.INCONCLUSIVE)
    (one,) = json.loads(capsys.readouterr().out)["measured"]
    assert "Landlock" in one["engine"]["details"]["jail"]
