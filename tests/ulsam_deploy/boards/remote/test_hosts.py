"""``bench``, ``verify`` and ``doctor`` on boards through a real sshd: one table, and nothing left there."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ulsam_deploy.boards.remote import Finished
from ulsam_deploy.cli import hosts, main
from ulsam_deploy.cli.bench_hosts import output_of
from ulsam_deploy.device.bench.result import Result
from ulsam_deploy.device.bundle import pack, read_bundle
from ulsam_deploy.device.commands.documents import VerifyDocument
from ulsam_deploy.device.errors import Exit, RefusedError, UnavailableError

from ...device.bench.results import NO_CLOCKS, measured, noisy, result
from ...handmade import make_bundle

Capture = pytest.CaptureFixture[str]
QUICK = ("--profile", "quick", "--rounds", "1", "--threads", "1")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_bundle(tmp_path_factory.mktemp("hosts") / "dense.bundle", targets=("onnx", "tflite"), batch=1).root


def config(tmp_path: Path, *boards: Any) -> list[str]:
    """One ssh_config of all boards, and this very Python as theirs, whatever a login's profile puts first."""
    (tmp_path / "ssh_config").write_text("".join(board.config.read_text() for board in boards))
    return ["--ssh-config", str(tmp_path / "ssh_config"), "--host-python", sys.executable]


@pytest.mark.long
def test_one_host_measures_and_nothing_is_left_there(
    kitchen: Any, bundle: Path, tmp_path: Path, capsys: Capture
) -> None:
    file = tmp_path / "r.json"
    words = ["bench", str(bundle), "--host", "kitchen", *config(tmp_path, kitchen), *QUICK, "-o", str(file)]
    assert main(words) in (0, 5)
    told = capsys.readouterr()
    made = Result.from_json(file.read_bytes())
    assert [one.label for one in made.measured] == ["onnx fp32", "tflite fp32"]
    assert made.settings.threads == 1
    assert [line.split()[:2] for line in told.out.splitlines() if line.startswith("kitchen ")] == [["kitchen", "onnx"], ["kitchen", "tflite"]]  # fmt: skip  # noqa: E501
    assert "kitchen: round 1 of 1" in told.err
    assert kitchen.left() == []


@pytest.mark.slow
def test_several_hosts_give_one_table_and_one_that_is_away_hurts_nobody(
    boards: Callable[[str], Any], bundle: Path, tmp_path: Path, capsys: Capture
) -> None:
    near, far = boards("near"), boards("far")
    (tmp_path / "r").mkdir()
    away = "Host away\n    HostName 127.0.0.1\n    Port 1\n"
    words = config(tmp_path, near, far)
    (tmp_path / "ssh_config").write_text((tmp_path / "ssh_config").read_text() + away)
    names = ["--host", "near", "--host", "far", "--host", "away"]
    code = main(["bench", str(bundle), *names, *words, *QUICK, "--targets", "onnx", "-o", f"{tmp_path}/r/b.json", "--json"])  # fmt: skip  # noqa: E501
    told = capsys.readouterr()
    found = json.loads(told.out)
    assert (found["schema"], found["exit_code"], code) == ("ulsam-deploy.bench-hosts/3", 4, 4)
    assert list(found["hosts"]) == ["away", "far", "near"]
    assert found["hosts"]["away"]["result"] is None
    assert "can't be reached" in found["hosts"]["away"]["error"]
    for name in ("near", "far"):
        text = (tmp_path / "r" / f"b.{name}.json").read_text()
        assert json.loads(text) == found["hosts"][name]["result"]
        assert Result.from_json(text).measured[0].label == "onnx fp32"
    assert (near.left(), far.left()) == ([], [])
    assert "error: away can't be reached" in told.err


@pytest.mark.long
def test_verify_on_hosts_is_what_it_is_here(kitchen: Any, bundle: Path, tmp_path: Path, capsys: Capture) -> None:
    packed = pack(read_bundle(bundle), tmp_path / "dense.zip")
    where = ["--host", "kitchen", *config(tmp_path, kitchen)]
    assert main(["verify", str(packed), *where, "--json", "--junit", str(tmp_path / "j.xml")]) == 0
    found = json.loads(capsys.readouterr().out)["hosts"]["kitchen"]
    assert main(["verify", str(bundle), "--json"]) == 0
    here = json.loads(capsys.readouterr().out)
    for one, other in zip(found["answer"]["artifacts"], here["artifacts"], strict=True):
        for artifact in (one, other):
            del artifact["evidence"]["latency"]
            del artifact["evidence"]["interpreters"]  # this process leaves TFLite Micro out (tests/conftest.py)
        assert one == other
    assert 'name="output y"' in (tmp_path / "j.xml").read_text()
    assert main(["verify", str(bundle), *where, "--target", "onnx", "--require", "measured-on-device"]) == 4
    out = capsys.readouterr().out
    assert "kitchen  onnx" in out
    assert "'measured-on-device' was required" in out
    assert kitchen.left() == []


def test_what_fails_there_fails_here(kitchen: Any, tmp_path: Path, capsys: Capture) -> None:
    """An engine that the board has not is exit 4 when it is asked for, with the board's own words."""
    bundle = make_bundle(tmp_path / "dense.bundle", targets=("onnx",), batch=1).root
    where = ["--host", "kitchen", *config(tmp_path, kitchen)]
    assert main(["bench", str(bundle), *where, *QUICK, "--batch", "2"]) == 2
    assert "error: kitchen: input 'x' has shape 2x64" in capsys.readouterr().err
    with (bundle / "onnx" / "model.onnx").open("ab") as file:
        file.write(b"\0")
    for verb in (["bench", str(bundle), *QUICK], ["verify", str(bundle)]):
        assert main([*verb, *where]) == 6, "it is not even sent"
    assert kitchen.left() == []


def test_doctor_on_a_host(kitchen: Any, tmp_path: Path, capsys: Capture) -> None:
    where = ["--host", "kitchen", *config(tmp_path, kitchen)]
    assert main(["doctor", *where]) == 0
    rows = [re.split(r" {2,}", line) for line in capsys.readouterr().out.splitlines()]
    assert ["kitchen", "onnxruntime", "fp32, fp16, int8", "yes"] in [row[:4] for row in rows]
    assert main(["doctor", *where, "--host", "nowhere.invalid", "--json"]) == 4
    found = json.loads(capsys.readouterr().out)["hosts"]
    assert found["kitchen"]["answer"]["schema"] == "ulsam-deploy.doctor/2"
    assert found["nowhere.invalid"]["answer"] is None
    assert kitchen.left() == []


@pytest.mark.slow
def test_a_busy_board_is_left_alone(kitchen: Any, bundle: Path, tmp_path: Path, capsys: Capture) -> None:
    where = ["--host", "kitchen", *config(tmp_path, kitchen)]
    first = threading.Thread(target=main, args=(["bench", str(bundle), *where, "--profile", "quick"],))
    first.start()
    deadline = time.monotonic() + 30
    while "ulsam-deploy.lock" not in kitchen.left():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert main(["bench", str(bundle), *where, *QUICK]) == 4
    first.join(60)
    assert "kitchen is in use by" in capsys.readouterr().err
    assert kitchen.left() == []


def test_ctrl_c_stops_the_boards_and_cleans_them(kitchen: Any, bundle: Path, tmp_path: Path) -> None:
    words = ["bench", str(bundle), "--host", "kitchen", *config(tmp_path, kitchen), "--profile", "mlperf-mobile"]
    running = subprocess.Popen([sys.executable, "-m", "ulsam_deploy", *words], stderr=subprocess.PIPE, text=True)
    assert running.stderr is not None
    while "round 1" not in (line := running.stderr.readline()):
        assert line
    running.send_signal(signal.SIGINT)
    assert running.wait(60) == 130
    assert "Traceback" not in running.stderr.read()
    running.stderr.close()
    assert kitchen.left() == []
    commands = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True).stdout
    assert str(kitchen.tmp) not in commands


@pytest.mark.slow
def test_a_time_limit_holds(kitchen: Any, bundle: Path, tmp_path: Path, capsys: Capture) -> None:
    where = ["--host", "kitchen", *config(tmp_path, kitchen), "--host-time-limit", "2"]
    assert main(["bench", str(bundle), *where, "--profile", "mlperf-mobile"]) == 4
    assert "was not done after 2 s" in capsys.readouterr().err
    assert kitchen.left() == []


def test_several_results_have_their_hosts_names() -> None:
    assert output_of(Path("a/r.json"), "pi@kitchen", 1) == Path("a/r.json")
    assert output_of(Path("a/r.json"), "pi@kitchen", 2) == Path("a/r.kitchen.json")


@pytest.mark.parametrize("out", ["", "[]", '{"schema": "other/1"}', "[" * 100000, "{"])
def test_an_answer_that_makes_no_sense_is_refused(out: str) -> None:
    answer = hosts.HostReply("kitchen", Finished(0, out, "", {}, "3.11", "aarch64"), None, Exit.OK)
    assert hosts.document(answer, VerifyDocument) is None
    assert isinstance(answer.error, RefusedError)
    assert answer.code is Exit.REFUSED
    told = Finished(4, out, "error: this Python has no \x1b[31mnumpy\n", {}, "3.11", "aarch64")
    answer = hosts.HostReply("kitchen", told, None, Exit.UNAVAILABLE)
    assert hosts.document(answer, VerifyDocument) is None
    assert isinstance(answer.error, UnavailableError)
    assert str(answer.error) == "kitchen: this Python has no \\x1b[31mnumpy"


@pytest.mark.slow
def test_a_result_that_makes_no_sense_is_refused(
    kitchen: Any, bundle: Path, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A board whose runner writes something else into the result file."""
    text = "import sys, pathlib\npathlib.Path('result.json').write_text('{\"schema\": 1}')\n"
    monkeypatch.setattr(hosts, "runner_bytes", text.encode)
    assert main(["bench", str(bundle), "--host", "kitchen", *config(tmp_path, kitchen), *QUICK]) == 6
    assert "the result of kitchen" in capsys.readouterr().err
    assert os.listdir(kitchen.tmp) == []  # noqa: PTH208  names


def test_a_board_can_not_write_to_the_terminal(
    kitchen: Any, bundle: Path, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = result(measured(noisy(6, 0), dataclasses.replace(NO_CLOCKS, text="\x1b]0;gone\x07"), target="\x1b[2Jonnx"))
    text = f"import pathlib\npathlib.Path('result.json').write_text({made.to_json()!r})\nprint('\\x1b[2J')\n"
    monkeypatch.setattr(hosts, "runner_bytes", text.encode)
    assert main(["bench", str(bundle), "--host", "kitchen", *config(tmp_path, kitchen), *QUICK]) == 0
    told = capsys.readouterr()
    assert r"\x1b[2Jonnx" in told.out
    assert "\x1b" not in told.out + told.err
