"""``bench`` on real engines: turns of fresh processes, what is kept of them, and every way in which it stops."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from junitparser import JUnitXml

from ulsam_deploy.cli import main
from ulsam_deploy.device.bench.board import Board
from ulsam_deploy.device.bench.process import FreshProcess, Subject
from ulsam_deploy.device.bench.profiles import PROFILES, Profile
from ulsam_deploy.device.bench.result import Parity, Result
from ulsam_deploy.device.bench.turns import Plan, order, take_turns
from ulsam_deploy.device.benchmark import Wanted, bench_bundles, compared
from ulsam_deploy.device.bundle import Bundle
from ulsam_deploy.device.commands import timings
from ulsam_deploy.device.errors import Exit, ExportError, UlsamError, UnavailableError
from ulsam_deploy.device.findings import Verdict
from ulsam_deploy.device.types import TensorSpec

from ..device.bench.boards import MODE, ORIN_JP6, PI5, PI5_SAYS, Fixture, load
from ..device.bench.results import THROTTLED, measured, noisy, result
from ..handmade import make_bundle

FAST = Profile("quick", 6, 1, 0.0, 0.06, 66, 0.2)
Capture = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return make_bundle(tmp_path_factory.mktemp("bench") / "dense.bundle", targets=("onnx", "tflite"), batch=1)


@pytest.fixture
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PROFILES, "quick", FAST)


def bench(bundle: Bundle, *words: object) -> int:
    return main(["bench", str(bundle.root), "--profile", "quick", "--threads", "1", *map(str, words)])


def test_every_other_round_goes_backwards() -> None:
    found = list(order(3, 2))
    assert found == [(0, 0, 0), (0, 1, 1), (0, 2, 2), (1, 0, 2), (1, 1, 1), (1, 2, 0)]
    assert [which for _, _, which in order(2, 2)] == [0, 1, 1, 0]


@pytest.mark.usefixtures("fast")
def test_a_result_holds_every_sample_and_says_which_is_faster(bundle: Bundle, tmp_path: Path, capsys: Capture) -> None:
    file = tmp_path / "r.json"
    code = bench(bundle, "-o", file, "--junit", tmp_path / "j.xml", "--markdown", tmp_path / "m.md")
    assert code in (0, 5)  # 5: something else ran here meanwhile
    out = capsys.readouterr()
    made = Result.from_json(file.read_bytes())
    assert [one.label for one in made.measured] == ["onnx fp32", "tflite fp32"]
    for one in made.measured:
        assert [process.round for process in one.processes] == list(range(6))
        assert one.latency.count == sum(len(times) for times in one.times()) >= 66
        assert one.parity is not None
        assert one.parity.verdict is Verdict.PASS
        assert one.peak_rss is not None
        assert one.peak_rss > 10e6
        assert one.engine.threads == 1
        assert (one.latency.p99 is None) == (one.latency.count < 662)
        assert one.load_ms > 0
        assert one.first_ms > 0
        assert one.size == sum(p.stat().st_size for p in (bundle.root / one.target).iterdir())
    positions = [[process.position for process in one.processes] for one in made.measured]
    assert positions == [[0, 1] * 3, [1, 0] * 3]
    assert (made.settings.rounds, made.settings.inputs) == (6, "the bundle's probes")
    assert len(made.comparisons) == 1
    assert made.comparisons[0].low is not None
    assert "Conditions: " in out.out
    assert "from host arrays to host arrays" in out.out
    assert "round 6 of 6" in out.err
    assert sum(suite.tests for suite in JUnitXml.fromfile(str(tmp_path / "j.xml"))) == 4
    assert "| onnx fp32 |" in (tmp_path / "m.md").read_text()


@pytest.mark.usefixtures("fast")
def test_options_reach_the_engine(tmp_path: Path, capsys: Capture) -> None:
    bundle = make_bundle(tmp_path / "dense.bundle", targets=("onnx",))
    np.savez(tmp_path / "in.npz", x=np.ones((2, 64), np.float32))
    cpu = min(os.sched_getaffinity(0))
    words = ("--targets", "onnx", "--batch", 3, "--cpus", cpu, "--inputs", tmp_path / "in.npz", "--rounds", 1, "--json")
    assert bench(bundle, *words) in (0, 5)
    made = Result.from_json(capsys.readouterr().out)
    (one,) = made.measured
    assert one.batch == 3
    assert (made.settings.cpus, made.settings.batch, made.settings.inputs) == ((cpu,), 3, "in.npz")
    assert len(one.processes) == made.settings.rounds == 1
    assert (made.comparisons, made.fastest) == ((), None)


@pytest.mark.usefixtures("fast")
def test_two_bundles_in_turns_are_one_session(bundle: Bundle, tmp_path: Path, capsys: Capture) -> None:
    words = ("--targets", "onnx", "--beside", bundle.root, "--beside-output", tmp_path / "old.json")
    assert bench(bundle, *words, "-o", tmp_path / "new.json") in (0, 5)
    new, old = (Result.from_json((tmp_path / f"{name}.json").read_bytes()) for name in ("new", "old"))
    assert new.session == old.session
    assert [p.position for p in old.measured[0].processes] == [1, 0] * 3
    assert "beside onnx fp32" in capsys.readouterr().out
    code = main(["compare", str(tmp_path / "old.json"), str(tmp_path / "new.json"), "--allow-unknown", "--json"])
    found = json.loads(capsys.readouterr().out)["findings"]
    (finding,) = (each for each in found if each["limit"].split(",")[0] == "time")
    assert code in (0, 5), "the same bundle twice"
    assert finding["found"].endswith("in turns")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--targets", "trt"], "has no artifact for 'trt'"),
        (["--cpus", "4095"], "is not available here"),
        (["--inputs", "nothing.npz"], "can't be read"),
        (["-o", "/nowhere/at/all.json"], "does not exist"),
        (["--beside-output", "x.json"], "needs --beside"),
        (["--host", "pi@kitchen", "--beside", "x"], "--beside is about two bundles"),
        (["--host=-oProxyCommand=x"], "is no host"),
        (["--host", "kitchen", "--host", "kitchen"], "is given twice"),
    ],
)
def test_wrong_words_say_what_is_wrong(bundle: Bundle, words: list[str], told: str, capsys: Capture) -> None:
    assert bench(bundle, *words) == 2
    assert told in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--cpus", "3-1"], "not a list of processors"),
        (["--batch", "0"], "is not a count"),
        (["--profile", "best"], "there is no --profile 'best'"),
    ],
)
def test_words_that_no_value_has(bundle: Bundle, words: list[str], told: str, capsys: Capture) -> None:
    assert bench(bundle, *words) == 2
    assert told in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arrays", "told"),
    [
        ({"y": np.ones((2, 64), np.float32)}, "input 'x' is missing"),
        ({"x": np.ones((2, 63), np.float32)}, "has shape 1x63"),
        ({"x": np.ones((2, 64), np.float64)}, "has dtype float64"),
        ({"x": np.ones((0, 64), np.float32)}, "input 'x' is missing"),
    ],
)
def test_inputs_that_do_not_fit(
    bundle: Bundle, arrays: dict[str, Any], told: str, tmp_path: Path, capsys: Capture
) -> None:
    np.savez(tmp_path / "in.npz", **arrays)
    assert bench(bundle, "--inputs", tmp_path / "in.npz") == 2
    assert told in capsys.readouterr().err


def test_inputs_that_are_no_archive(bundle: Bundle, tmp_path: Path, capsys: Capture) -> None:
    for content in (b"", b"PK\3\4", b"hello"):
        (tmp_path / "in.npz").write_bytes(content)
        assert bench(bundle, "--inputs", tmp_path / "in.npz") == 2
        assert "can't be read" in capsys.readouterr().err


def test_an_altered_bundle_is_not_timed(tmp_path: Path, capsys: Capture) -> None:
    altered = make_bundle(tmp_path / "dense.bundle", targets=("onnx",))
    with (altered.root / "onnx" / "model.onnx").open("ab") as file:
        file.write(b"\0")
    assert bench(altered) == 6
    assert "round" not in capsys.readouterr().err


def subject(tmp_path: Path, source: str) -> Subject:
    """An artifact of the engine that :func:`stubs` announces: Python source that defines ``run``."""
    (tmp_path / "model.py").write_text(source)
    specs = (TensorSpec("x", (1, 2)),), (TensorSpec("y", (1, 2)),)
    feed = {"x": np.ones((1, 2), np.float32)}
    return Subject("m", "stub", "fp32", "stub", (tmp_path / "model.py",), *specs, feed, "0" * 64, 1)


@pytest.fixture
def stubs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Subject]:
    """An engine of a third party, announced as any is, whose artifacts do what a test wants."""
    site = tmp_path / "site"
    (site / "stub-1.dist-info").mkdir(parents=True)
    (site / "stub-1.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: stub\nVersion: 1\n")
    (site / "stub-1.dist-info" / "entry_points.txt").write_text("[ulsam_deploy.runtimes]\nstub = stub_engine:Stub\n")
    (site / "stub_engine.py").write_text(
        "from ulsam_deploy.device.findings import EngineFacts\n"
        "from ulsam_deploy.device.runtime import Runtime\n"
        "from ulsam_deploy.device.types import Availability\n"
        "class Stub(Runtime):\n"
        "    name = target = 'stub'\n"
        "    @classmethod\n"
        "    def available(cls):\n        return Availability(True, 'stub 1')\n"
        "    def _load(self):\n"
        "        self.there = {}\n        exec(self.files[0].read_text(), self.there)\n"
        "    def _run(self, inputs):\n        return self.there['run'](inputs)\n"
        "    def _close(self):\n        pass\n"
        "    def facts(self):\n        return EngineFacts('stub', '', gpu=self.there.get('GPU', ''))\n"
    )
    monkeypatch.syspath_prepend(str(site))
    return lambda source: subject(tmp_path, source)


def fresh(one: Subject) -> FreshProcess:
    return FreshProcess(one, threads=None, cpus=(), warmup=1, warmup_seconds=0.0)


def test_each_process_is_fresh_and_pinned_and_ends(stubs: Callable[[str], Subject]) -> None:
    cpu = min(os.sched_getaffinity(0))
    source = "import os, time\nseen = []\ndef run(x):\n    seen.append(1)\n    time.sleep(0.001)\n"
    with FreshProcess(stubs(source), threads=None, cpus=(cpu,), warmup=3, warmup_seconds=0.0) as process:
        assert os.sched_getaffinity(process.pid) == {cpu}
        taken = process.measure(0.0, 20)
        assert taken.count == 20
        time.sleep(0.1)
        ran = process.rest()
        assert ran.count >= 10, "the network runs on while the machine is looked at"
        process.spin()
        time.sleep(0.05)
        assert process.rest().count >= 5
        pid = process.pid
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("import os, signal\ndef run(x):\n    os.kill(os.getpid(), signal.SIGSEGV)\n", "crashed .signal SIGSEGV."),
        ("import os\ndef run(x):\n    os.write(2, b'bad luck')\n    os._exit(3)\n", "status 3.: bad luck"),
        ("def run(x):\n    raise ValueError('oh')\n", "timing 'stub fp32' crashed: ValueError: oh"),
    ],
)  # fmt: skip
def test_an_engine_that_dies_is_told_with_its_last_words(
    stubs: Callable[[str], Subject], source: str, words: str
) -> None:
    with pytest.raises(ExportError, match=words), fresh(stubs(source)):
        pass


def test_an_error_that_a_user_is_meant_to_read_comes_through(stubs: Callable[[str], Subject]) -> None:
    source = "from ulsam_deploy.device.errors import UnavailableError\n"
    source += "def run(x):\n    raise UnavailableError('no', todo='go')\n"
    with pytest.raises(UlsamError, match="no") as error, fresh(stubs(source)):
        pass
    assert (error.value.exit_code, error.value.todo) == (Exit.UNAVAILABLE, "go")


def test_an_engine_that_prints_does_not_disturb_the_answers(stubs: Callable[[str], Subject]) -> None:
    with fresh(stubs("import os\ndef run(x):\n    os.write(1, b'noise\\n')\n")) as process:
        assert process.measure(0.0, 5).count == 5


def test_one_that_fails_is_given_up_and_the_others_go_on(stubs: Callable[[str], Subject], tmp_path: Path) -> None:
    good = stubs("def run(x):\n    pass\n")
    (tmp_path / "bad").mkdir()
    bad = subject(tmp_path / "bad", "import os\ndef run(x):\n    os._exit(9)\n")
    timed = take_turns([bad, good], Plan(FAST), Board())
    assert timed[0].error is not None
    assert timed[0].processes == []
    assert len(timed[1].processes) == 6
    assert timed[1].error is None


def test_the_watchers_see_it_under_load_and_energy_is_beyond_idling(
    stubs: Callable[[str], Subject], tmp_path: Path
) -> None:
    """The firmware counts how often it is asked, and draws 2 W more while the network runs."""
    root = tmp_path / "root"
    fixture = Fixture("", PI5)
    fixture.board(root)
    running: list[int] = []

    def command(words: Any) -> str | None:
        if words[1] == "pmic_read_adc":
            watts = 3.0 if not running or not alive(running[-1]) else 5.0
            return f"VDD_CORE_A current(7)={watts:.1f}A\nVDD_CORE_V volt(15)=1.0V\n"
        return PI5_SAYS.get(" ".join(words))

    class Seen(Board):
        def process_seconds(self, process: int) -> float | None:
            if process not in running:
                running.append(process)
            return 1.0

    timed = take_turns([stubs("import time\ndef run(x):\n    time.sleep(0.002)\n")], Plan(FAST), Seen(root, command))
    energy = timed[0].energy
    assert energy is not None
    assert (energy.idle_watts, energy.busy_watts) == pytest.approx((3.0, 5.0))
    assert energy.joules_per_inference == pytest.approx(2.0 * 0.0022, rel=0.4)
    assert "board's rails" in energy.sensor
    assert timed[0].measured().energy == energy


@pytest.mark.parametrize("gpu", ["Orin", ""])
def test_the_clock_of_a_gpu_counts_for_what_says_that_it_runs_there(
    stubs: Callable[[str], Subject], tmp_path: Path, gpu: str
) -> None:
    slow = {"sys/class/devfreq/17000000.gpu/cur_freq": "306000000\n"}
    board = Fixture("", {**ORIN_JP6, **slow}, MODE).board(tmp_path / "root")
    one_round = dataclasses.replace(FAST, rounds=1, energy_seconds=0.01)
    timed = take_turns([stubs(f"GPU = {gpu!r}\ndef run(x):\n    pass\n")], Plan(one_round), board)
    told = [reason.text for reason in timed[0].processes[0].watch.reasons]
    assert any("ran at 306 of 625 MHz under load" in text for text in told) == bool(gpu)


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_an_artifact_that_computes_something_else_is_never_the_fastest() -> None:
    wrong = measured(noisy(12, 0, 0.5), parity=Parity(Verdict.FAIL, 99.0, 0.0))
    right = measured(noisy(12, 1), target="tflite")
    third = measured(noisy(12, 2, 1.5), target="openvino")
    comparisons, fastest = compared([wrong, right, third])
    assert fastest == "tflite fp32"
    assert comparisons[0].ratio == pytest.approx(0.5, rel=0.05)
    made = result(wrong, right, third)
    assert timings.code(made) is Exit.CHECK_FAILED
    assert "onnx fp32 does not compute what the model computes: fail." in timings.remarks(made)


def test_what_can_not_be_told_apart_has_no_fastest() -> None:
    comparisons, fastest = compared([measured(noisy(12, 0)), measured(noisy(12, 1), target="tflite")])
    assert fastest is None
    assert comparisons[0].low is not None
    assert comparisons[0].low < 1.0
    assert compared([measured(noisy(4, 0)), measured(noisy(4, 1, 3.0), target="tflite")])[1] is None, "too few rounds"


def test_the_exit_code_follows_the_conditions() -> None:
    clean = result(measured(noisy(6, 0)))
    assert timings.code(clean) is Exit.OK
    assert timings.code(result(measured(noisy(6, 0), THROTTLED))) is Exit.INCONCLUSIVE
    assert "  Throttled happened once." in timings.remarks(result(measured(noisy(6, 0), THROTTLED)))


def test_nothing_to_time_says_why(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    from ulsam_deploy.device import benchmark

    def none(target: str) -> Any:
        raise UnavailableError(f"no engine here can run '{target}' artifacts")

    monkeypatch.setattr(benchmark, "runtime_for", none)
    with pytest.raises(UnavailableError, match="no engine here can run 'onnx'"):
        bench_bundles([bundle], Wanted(Plan(FAST)), Board())


def test_ctrl_c_leaves_no_process_and_no_file(bundle: Bundle, tmp_path: Path) -> None:
    words = [
        "bench",
        str(bundle.root),
        "--profile",
        "mlperf-mobile",
        "-o",
        str(tmp_path / "r.json"),
        "--targets",
        "onnx",
    ]
    command = [sys.executable, "-m", "ulsam_deploy", *words]
    running = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)
    assert running.stderr is not None
    while "round 1" not in (line := running.stderr.readline()):
        assert line
    time.sleep(1.0)
    os.killpg(running.pid, signal.SIGINT)
    told = running.stderr.read()
    assert running.wait(20) == 130
    assert "interrupted" in told
    assert "Traceback" not in told
    running.stderr.close()
    assert not (tmp_path / "r.json").exists()
    with pytest.raises(ProcessLookupError):
        os.killpg(running.pid, 0)


def test_the_profiles_are_what_they_say() -> None:
    mobile = PROFILES["mlperf-mobile"]
    assert (mobile.min_seconds, mobile.min_count) == (60.0, 1024)
    assert PROFILES["default"].min_count >= 662
    assert all(profile.rounds >= 6 for profile in PROFILES.values())
    assert dataclasses.replace(mobile, name="x").rounds % 2 == 0, "A B B A needs an even number"
    assert load(1) != load(0)
