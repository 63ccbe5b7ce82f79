"""A real Dask scheduler and two workers on loopback, one of them killed in the middle: nothing lost, nothing twice."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ulsam_deploy.against.worker import File, softmaxes
from ulsam_deploy.device.errors import Exit, UsageError
from ulsam_deploy.sweep import executors

MEMORY = 1 << 29
#: Two targets each, so twice as many cells.
CHECKPOINTS = 30


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[tuple[str, list[subprocess.Popen[bytes]]]]:
    """The scheduler's address and two worker processes, without the nannies that would start dead ones again."""
    pytest.importorskip("distributed")
    about, log = tmp_path / "scheduler.json", (tmp_path / "dask.log").open("wb")
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "ULSAM_DEPLOY_CACHE": str(tmp_path / "cluster-cache")}

    def start(*words: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", *words, "--no-dashboard"]
        return subprocess.Popen(command, stdout=log, stderr=log, env=environment, cwd=tmp_path)

    processes = [start("distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", "0",
                       "--scheduler-file", str(about))]  # fmt: skip
    try:
        _until(about.exists)
        address = json.loads(about.read_text())["address"]
        for _ in range(2):
            processes.append(start("distributed.cli.dask_worker", address, "--no-nanny", "--nthreads", "1",
                                   "--host", "127.0.0.1", "--resources", f"memory={MEMORY}"))  # fmt: skip
        _until(lambda: (tmp_path / "dask.log").read_text().count("Registered to") == 2)
        yield address, processes[1:]
    finally:
        for process in reversed(processes):
            process.kill()
            process.wait()
        log.close()


def _until(true: Callable[[], bool], seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "it did not come to be"
        time.sleep(0.1)


def test_a_task_that_no_worker_has_memory_for_is_refused_at_once(cluster: Any, tmp_path: Path) -> None:
    address, _ = cluster
    with pytest.raises(UsageError, match="none of the scheduler's 2 workers"), executors.executor(address, 1, 1 << 40):
        pass
    asked = File("nosuch", tmp_path)
    with executors.executor(address, 1, MEMORY) as pool, pytest.raises(UsageError, match="called 'nosuch'") as error:
        pool.submit(softmaxes, asked).result(60)
    assert error.value.exit_code is Exit.USAGE
    assert "onnxruntime" in error.value.expected


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_sixty_cells_and_a_killed_worker(cluster: Any, tiny: Callable[[int], list[Path]], tmp_path: Path) -> None:
    address, (victim, survivor) = cluster
    tiny(CHECKPOINTS)
    toml, cells = tmp_path / "many.toml", tmp_path / "many.sweep" / "cells"
    toml.write_text('checkpoints = ["*.onnx"]\ntargets = ["onnx", "openvino"]\nmemory = 0.5\n')
    environment = {**os.environ, "ULSAM_DEPLOY_CACHE": str(tmp_path / "own-cache")}
    command = [sys.executable, "-m", "ulsam_deploy", "sweep", str(toml), "--json"]
    running = subprocess.Popen(
        [*command, "--scheduler", address], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment
    )

    def finished() -> list[Path]:
        return list(cells.glob("*/result.json"))

    def begun_by_victim() -> set[Path]:
        return {mark.parent.parent for mark in cells.glob(f"*/attempts/*-{victim.pid}-*")}

    # In the middle of the sweep and of a cell: the victim has begun one that has no result yet.
    _until(lambda: len(finished()) >= 20 and any(not (c / "result.json").exists() for c in begun_by_victim()), 1800)
    os.kill(victim.pid, signal.SIGKILL)
    before = {path.parent.name: path.read_bytes() for path in finished()}
    interrupted = {cell.name for cell in begun_by_victim()} - before.keys()
    out, err = running.communicate(timeout=1800)
    document = json.loads(out)
    assert document["exit_code"] == running.returncode == 0, err.decode()[-2000:]

    assert len(document["cells"]) == len({cell["key"] for cell in document["cells"]}) == 2 * CHECKPOINTS
    assert {cell["found"]["verdict"] for cell in document["cells"]} == {"pass"}
    attempts = {cell["key"]: cell["attempts"] for cell in document["cells"]}
    assert len(interrupted) == 1
    assert attempts == {key: 2 if key in interrupted else 1 for key in attempts}
    after = {path.parent.name: path.read_bytes() for path in finished()}
    assert {key: after[key] for key in before} == before  # what was done was not done again
    workers = Counter(cell["run"]["worker"].rsplit("-", 1)[1] for cell in document["cells"])
    assert set(workers) == {str(victim.pid), str(survivor.pid)}
    assert len(re.findall(rb"^\[\d+/60\]", err, re.MULTILINE)) == 60

    # Asked again, everything is done already; two of the cells done locally give the same bytes.
    again = subprocess.run([*command, "--scheduler", address], capture_output=True, env=environment, check=True)
    assert json.loads(again.stdout)["cells"] == document["cells"]
    some = tmp_path / "some.toml"
    some.write_text(toml.read_text().replace('"*.onnx"', '"tiny-00.onnx", "tiny-29.onnx"'))
    local = subprocess.run([*command[:4], str(some), "--json"], capture_output=True, env=environment, check=True)
    remote = {cell["key"]: cell["found"] for cell in document["cells"]}
    here = {cell["key"]: cell["found"] for cell in json.loads(local.stdout)["cells"]}
    assert len(here) == 4
    assert here == {key: remote[key] for key in here}
    assert all(found["files"] for found in here.values())
