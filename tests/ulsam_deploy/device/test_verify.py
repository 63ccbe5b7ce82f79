"""A bundle whose hashes fit and whose artifact means harm: its engine's process dies, and the command says so."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ulsam_deploy.cli import main
from ulsam_deploy.device import plugins
from ulsam_deploy.device.bundle import MANIFEST, Bundle, read_bundle
from ulsam_deploy.device.elsewhere.limits import Limits
from ulsam_deploy.device.errors import Exit
from ulsam_deploy.device.parity import npz
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
    """Make the artifact of ``bundle`` one that does this; the manifest fits it."""
    path = bundle.root / "onnx" / "model.onnx"
    path.write_text(does)
    plain = json.loads((bundle.root / MANIFEST).read_text())
    (record,) = plain["artifacts"]
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
        (FORGED.format(value={}, failure=None, more=""), "Evidence: at $: the key 'tier' is missing"),
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
