"""A bundle whose hashes fit and whose artifact means harm: its engine's process dies, and the command says so."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from ulsam_deploy.cli import main
from ulsam_deploy.device import npz, plugins
from ulsam_deploy.device.bundle import MANIFEST, Bundle, read_bundle
from ulsam_deploy.device.elsewhere.limits import Limits
from ulsam_deploy.device.errors import Exit
from ulsam_deploy.device.third_party import version
from ulsam_deploy.device.verify import verify_bundle

from ..against.test_guard import PLUGIN
from ..handmade import make_bundle

pytest.importorskip("onnx")


#: An answer that no process of ours gives.
FORGED = """
import json, numpy
told = json.dumps({{'value': {value}, 'arrays': {{}}, 'failure': {failure}, 'traceback': ''}})
numpy.savez('answer.npz', words=numpy.frombuffer(told.encode(), 'u1'){more})
os._exit(0)
"""
SUCCESS = {"kind": "x", "exit_code": 0, "found": "", "expected": "", "todo": ""}


@pytest.fixture
def bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bundle]:
    """A sound bundle, and an engine that does what its file says for ``unruly`` artifacts."""
    site = tmp_path / "site"
    info = site / "unruly-1.0.dist-info"
    info.mkdir(parents=True)
    (site / "unruly.py").write_text(PLUGIN)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: unruly\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[{plugins.RUNTIMES}]\nunruly = unruly:Unruly\n")
    monkeypatch.syspath_prepend(site)
    plugins.registered.cache_clear()
    yield make_bundle(tmp_path / "model.bundle", targets=("onnx",), width=8, batch=1)
    sys.modules.pop("unruly", None)
    plugins.registered.cache_clear()


def unruly(bundle: Bundle, does: str) -> Path:
    """Make the last artifact of ``bundle`` one that does this; the manifest fits it."""
    path = bundle.files(bundle.manifest.artifacts[-1])[0]
    path.write_text(does)
    plain = json.loads((bundle.root / MANIFEST).read_text())
    record = plain["artifacts"][-1]
    record["target"] = "unruly"
    record["files"][0].update(sha256=hashlib.sha256(does.encode()).hexdigest(), size=len(does))
    (bundle.root / MANIFEST).write_text(json.dumps(plain))
    return bundle.root


@pytest.mark.parametrize(
    ("does", "words"),
    [
        ("os.kill(os.getpid(), signal.SIGSEGV)", "crashed (signal SIGSEGV)"),
        ("os._exit(0)", "crashed"),
        (FORGED.format(value=7, failure=None, more=""), "Evidence: at $: 7 has the wrong type"),
        (FORGED.format(value={}, failure=None, more=""), "Evidence: at $: the key 'level' is missing"),
        (FORGED.format(value=None, failure=SUCCESS, more=""), "an error with the exit code of success"),
        (FORGED.format(value=None, failure=None, more=", n=numpy.zeros(1)"), "no message that can be read"),
        (FORGED.format(value="'7' * (65 << 20)", failure=None, more=""), "bytes of words are more than 67108864"),
        ("pathlib.Path('answer.npz').write_text('[]'); os._exit(0)", "crashed"),
        ("bytearray(9 << 30)", "more memory than the 1 GiB allowed"),
        ("raise KeyError('oops')", "KeyError: 'oops'"),
    ],
)
def test_harm_ends_in_words(bundle: Bundle, does: str, words: str, capsys: pytest.CaptureFixture[str]) -> None:
    root = unruly(bundle, does)
    assert main(["verify", str(root), "--memory-limit", "1"]) == Exit.EXPORT_FAILED
    said = capsys.readouterr().err
    assert words in said
    assert "unruly fp32: not run here: " in said


def test_an_answer_with_too_large_arrays_is_not_read(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    root = unruly(bundle, "import numpy; numpy.savez('answer.npz', words=numpy.zeros(9 << 20, 'u1')); os._exit(0)")
    monkeypatch.setattr(npz, "MAX_BYTES", 8 << 20)
    (found,) = verify_bundle(read_bundle(root))
    assert "would unpack to 9437312 bytes, more than 8388608" in str(found.error)


def test_an_endless_artifact_is_stopped(bundle: Bundle) -> None:
    root = unruly(bundle, "time.sleep(600)")
    (found,) = verify_bundle(read_bundle(root), limits=Limits(4))
    assert "took longer than 4 seconds" in str(found.error)


@pytest.fixture
def two(bundle: Bundle) -> Bundle:
    """A bundle with a sound artifact, and one more."""
    if not version("openvino"):  # importing it here would start its telemetry, which forks
        pytest.skip("openvino is not installed")
    return make_bundle(bundle.root.with_name("two.bundle"), targets=("onnx", "openvino"), width=8, batch=1)


#: Gives something, so that there is a verdict, and then does this where it is not checked but run on labelled data.
ON_DATA = """
self._run = lambda inputs: {'y': __import__('numpy').zeros((1, 8), 'f4')}
if b'labelled:_right' in pathlib.Path('question.npz').read_bytes():
    %s
"""
#: The same where it is timed: there is no job's folder then.
TIMED = """
self._run = lambda inputs: {'y': __import__('numpy').zeros((1, 8), 'f4')}
if not pathlib.Path('question.npz').exists():
    %s
"""
SEGFAULT, HUNGRY = "os.kill(os.getpid(), signal.SIGSEGV)", "bytearray(9 << 30)"


@pytest.mark.parametrize(
    ("does", "words"),
    [
        (SEGFAULT, "unruly fp32: unruly on openvino/model.xml crashed (signal SIGSEGV)"),
        (HUNGRY, "unruly fp32: unruly on openvino/model.xml needed more memory than the 1 GiB allowed"),
        (TIMED % SEGFAULT, "unruly fp32: timing 'unruly fp32' crashed (signal SIGSEGV)"),
        (TIMED % HUNGRY, "unruly fp32: timing 'unruly fp32' needed more memory than the 1 GiB allowed"),
        (TIMED % "{}['oops']", "unruly fp32: timing 'unruly fp32' crashed: KeyError: 'oops'"),
    ],
)
def test_harm_in_one_artifact_is_told_by_bench_and_the_other_is_timed(
    two: Bundle, does: str, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    root = unruly(two, does)
    asked = ["--profile", "quick", "--rounds", "1", "--memory-limit", "1"]
    assert main(["bench", str(root), *asked]) == Exit.EXPORT_FAILED
    said = capsys.readouterr().out
    assert f"Left out: {words}" in said
    assert "onnx fp32 takes" in said
    assert main(["bench", str(root), "--target", "unruly", *asked]) == Exit.EXPORT_FAILED, "nothing to time is no less"


def test_harm_on_labelled_data_is_told_and_the_other_artifact_has_its_accuracy(
    two: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images, labels = np.random.default_rng(0).normal(size=(20, 8)).astype(np.float32), np.arange(20) % 8
    np.savez(tmp_path / "data.npz", x=images, labels=labels)
    root = unruly(two, ON_DATA % SEGFAULT)
    assert main(["verify", str(root), "--data", str(tmp_path / "data.npz"), "--json"]) == Exit.EXPORT_FAILED
    good, bad = json.loads(capsys.readouterr().out)["artifacts"]
    assert good["accuracy"]["count"] == 20
    assert good["error"] is None
    assert bad["accuracy"] is None
    assert bad["evidence"]["verdict"] == "fail"
    assert bad["error"].startswith("unruly on openvino/model.xml with the labelled data crashed (signal SIGSEGV)")


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("command", ["verify", "bench"])
def test_nothing_is_left_running_when_the_command_ends(
    bundle: Bundle, tmp_path: Path, command: str, number: signal.Signals
) -> None:
    """Neither the process that hangs in the engine nor the one that it started."""
    marks = tmp_path / "marks"
    marks.mkdir()
    hang = f"os.fork(); pathlib.Path({str(marks)!r}, str(os.getpid())).touch(); time.sleep(600)"
    root = unruly(bundle, hang if command == "verify" else TIMED % hang)
    with subprocess.Popen(
        [sys.executable, "-m", "ulsam_deploy", command, str(root), "--jail", "off"],  # it leaves marks
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as running:
        until(lambda: len(list(marks.iterdir())) == 2)
        running.send_signal(number)
        running.wait(60)
    until(lambda: not any(is_running(int(mark.name)) for mark in marks.iterdir()))


def until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not true():
        assert time.monotonic() < deadline, "it did not come to be"
        time.sleep(0.05)


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
