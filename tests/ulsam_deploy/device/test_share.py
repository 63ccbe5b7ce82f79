"""One thread in each process, whatever starts it, unless the user chose another number; large work in parts at once."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pytest

from ulsam_deploy.cli import main
from ulsam_deploy.device import share
from ulsam_deploy.device.bench import process
from ulsam_deploy.device.elsewhere import job
from ulsam_deploy.device.elsewhere.limits import Limits
from ulsam_deploy.device.errors import UsageError
from ulsam_deploy.exporting.workers import local

NAMES = ("OMP_NUM_THREADS", "ULSAM_DEPLOY_CORES")


@dataclass(frozen=True)
class Variables:
    found: Mapping[str, str]


def variables(asked: Variables) -> Variables:
    """What a process sees."""
    return Variables({name: os.environ[name] for name in asked.found if name in os.environ})


ASKED = Variables(dict.fromkeys(NAMES, ""))


@pytest.fixture(autouse=True)
def nothing_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(6)))
    monkeypatch.setattr("builtins.open", _no_limit)
    for name in NAMES:
        monkeypatch.setenv(name, "")  # so that it is restored, whoever changes it
        monkeypatch.delenv(name)


def _no_limit(path, *args, _open=open, **kwargs):
    if str(path).startswith("/sys/fs/cgroup"):
        raise FileNotFoundError(path)
    return _open(path, *args, **kwargs)


def test_a_command_uses_one_thread_and_knows_its_cores() -> None:
    assert main(["cache", "--json"]) == 0
    assert (os.environ["OMP_NUM_THREADS"], share.cores(), share.at_once()) == ("1", 6, 6)


def test_a_users_number_of_threads_is_respected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "4,2")
    assert main(["cache", "--json"]) == 0
    assert os.environ["OMP_NUM_THREADS"] == "4,2"
    assert (share.cores(), share.at_once()) == (6, 4)
    assert share.for_children(3)["OMP_NUM_THREADS"] == share.unclaimed()["OMP_NUM_THREADS"] == "4,2"


def test_a_users_number_of_cores_is_respected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ULSAM_DEPLOY_CORES", "2")
    share.claim()
    assert (share.cores(), share.at_once(), share.for_children(2)["ULSAM_DEPLOY_CORES"]) == (2, 2, "1")


@pytest.mark.parametrize("chosen", ["", "0", "-1", "two"])
def test_what_is_no_number_of_cores_is_refused(
    chosen: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ULSAM_DEPLOY_CORES", chosen)
    with pytest.raises(UsageError, match=f"ULSAM_DEPLOY_CORES is '{chosen}'"):
        share.cores()
    assert main(["cache"]) == 2
    assert "a number of cores, from 1 on" in capsys.readouterr().err


def test_a_control_group_limits_the_cores(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    limit = tmp_path / "cpu.max"
    monkeypatch.setattr("builtins.open", lambda *_: limit.open())
    for text, cores in (("250000 100000", 2), ("50000 100000", 1), ("max 100000", 6)):
        limit.write_text(text)
        assert share.cores() == cores


def test_every_process_that_is_started_gets_one_thread() -> None:
    assert "OMP_NUM_THREADS" not in os.environ  # as in a program of the user's that calls this library
    assert job.do(variables, ASKED, Limits(), "reading").found == {"OMP_NUM_THREADS": "1", "ULSAM_DEPLOY_CORES": "6"}
    with local(2) as pool:
        found = pool.submit(variables, ASKED).result().found
    assert found == {"OMP_NUM_THREADS": "1", "ULSAM_DEPLOY_CORES": "3"}
    assert "OMP_NUM_THREADS" not in os.environ


def test_what_bench_times_runs_as_without_this_program(monkeypatch: pytest.MonkeyPatch) -> None:
    class StartedError(Exception):
        pass

    def start(_limits, *, quiet, environment):
        raise StartedError(environment)

    monkeypatch.setattr(process, "Worker", start)
    share.claim()
    subject = process.Subject("", "onnx", "fp32", "onnxruntime", (), (), (), {}, "", 0)
    with pytest.raises(StartedError) as error:
        process.FreshProcess(subject, threads=None, cpus=(), warmup=0, warmup_seconds=0).__enter__()
    assert "OMP_NUM_THREADS" not in error.value.args[0]


def test_long_batches_are_computed_at_once_in_one_thread_each(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    from ulsam_deploy.graph import evaluate

    monkeypatch.setenv("ULSAM_DEPLOY_CORES", "2")
    together = threading.Barrier(2, timeout=60)
    seen = set()

    def double(batch):
        seen.add((threading.get_ident(), torch.get_num_threads()))
        if batch[0] > 1:
            together.wait()  # fails unless two are computed at the same time
        return batch[0] * 2

    before = torch.get_num_threads()
    monkeypatch.setattr(evaluate, "LONG", -1)
    torch.set_num_threads(3)
    try:
        batches: list[Any] = [[number] for number in range(1, 6)]
        assert evaluate.of_each(double, batches) == [2, 4, 6, 8, 10]
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)
    assert (len(seen), {threads for _, threads in seen}) == (3, {1})


@pytest.mark.parametrize(("cores", "memory", "long"), [("1", 1 << 60, -1), ("2", 0, -1), ("2", 1 << 60, 60)])
def test_batches_are_computed_one_by_one(cores, memory, long, monkeypatch: pytest.MonkeyPatch) -> None:
    from ulsam_deploy.graph import evaluate

    monkeypatch.setenv("ULSAM_DEPLOY_CORES", cores)
    monkeypatch.setattr(share, "memory", lambda: memory)
    monkeypatch.setattr(evaluate, "LONG", long)
    assert set(evaluate.of_each(lambda _: threading.get_ident(), [[]] * 4)) == {threading.get_ident()}
