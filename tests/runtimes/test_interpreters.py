"""One .tflite in several interpreters: what they agree on passes, and a silent difference fails and names them."""

from __future__ import annotations

import json
import os
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ulsam_deploy.cli import main
from ulsam_deploy.device import interpreters, plugins
from ulsam_deploy.device.bundle import Evidence
from ulsam_deploy.device.commands import words
from ulsam_deploy.device.elsewhere.limits import Limits
from ulsam_deploy.device.engines import engines_of, runtime_for
from ulsam_deploy.device.errors import ExportError, UsageError
from ulsam_deploy.device.findings import EngineFacts, ReasonKind, Verdict
from ulsam_deploy.device.interpreters import in_a_process, with_interpreters
from ulsam_deploy.device.parity import Golden
from ulsam_deploy.device.runtime import Runtime
from ulsam_deploy.device.third_party import installed
from ulsam_deploy.device.types import Availability, EvidenceLevel
from ulsam_deploy.exporters.tflite import exporter as tflite_exporter
from ulsam_deploy.exporters.tflite import model as tflite_model
from ulsam_deploy.exporters.tflite import precision as tflite_precision

MICRO, OLD = "tflite-micro", "tflite-runtime"
PYTHON = "ULSAM_DEPLOY_PYTHON_TFLITE_RUNTIME"
needs_micro = pytest.mark.skipif(find_spec("tflite_micro") is None, reason="needs tflite-micro: pip install '.[tflm]'")
needs_old = pytest.mark.skipif(PYTHON not in os.environ, reason="needs tflite-runtime: 'make test-interpreters' has it")


@pytest.fixture(autouse=True)
def as_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The rest of the suite leaves it out."""
    monkeypatch.setattr(plugins.load(plugins.RUNTIMES, MICRO), "available", lambda: installed("tflite_micro"))


def outside(content: bytes, least: int = 256) -> bytes:
    """``content`` with its larger buffers behind the flatbuffer, as ai-edge-quantizer writes them."""
    model = tflite_model.read(content)
    moved = [buffer for buffer in model.buffers if buffer.data is not None and len(buffer.data) >= least]
    blobs = [bytes(np.asarray(buffer.data, np.uint8)) for buffer in moved]
    assert blobs
    for buffer, blob in zip(moved, blobs):
        buffer.data, buffer.offset, buffer.size = None, 1 << 40, len(blob)
    end = len(tflite_model.write(model))
    tail = b""
    for buffer, blob in zip(moved, blobs):
        tail += b"\0" * (-(end + len(tail)) % 16)
        buffer.offset = end + len(tail)
        tail += blob
    return tflite_model.write(model) + tail


def golden_of(one: Any, count: int = 12) -> Golden:
    images = one.images(count)
    expected = {"logits": one.reference(images)}
    noisy = [{"logits": expected["logits"] * (1 + 2e-6)}]
    names = [f"held-out-{number}" for number in range(count)]
    return Golden.build({"input": images}, expected, [], noisy, blocks=(), probes=names)


def judged(one: Any, file: Path, *, evidence: Evidence | None = None) -> Evidence:
    """What all interpreters make of ``file``, where LiteRT passes."""
    run = in_a_process([file], one.artifact.inputs, one.artifact.outputs, Limits())
    own = evidence or Evidence(EvidenceLevel.EXECUTED, Verdict.PASS, engine=EngineFacts("LiteRT", "2"))
    return with_interpreters(own, "tflite", golden_of(one), "fp32", 1, run)


def faults(evidence: Any) -> list[str]:
    return [reason["kind"] for reason in evidence["reasons"] if reason["kind"].endswith("fault")]


def row_of(evidence: Evidence, name: str) -> Any:
    return next(row for row in evidence.interpreters if row.name == name)


def test_litert_is_the_engine_and_the_others_are_its_interpreters() -> None:
    assert [engine.name for engine in engines_of("tflite")] == ["tflite", OLD, MICRO]
    assert runtime_for("tflite").name == "tflite"


@needs_micro
def test_tflite_micro_computes_what_litert_does(made: Any) -> None:
    one = made("tflite", 1)
    images = one.images(1)
    micro: type[Runtime] = plugins.load(plugins.RUNTIMES, MICRO)
    with micro(one.files, one.artifact.inputs, one.artifact.outputs) as session, one.session() as own:
        first = session.run({"input": images})["logits"]
        again = session.run({"input": images * 2})["logits"]
        assert np.abs(first - again).max() > 1e-3, "the first answer is not overwritten"
        assert np.abs(first - own.run({"input": images})["logits"]).max() < 1e-5
        assert session.ports() == own.ports()
        assert (session.facts().engine, session.facts().precision) == ("TFLite Micro", "fp32")


@needs_micro
def test_an_interpreter_that_agrees_has_a_row(made: Any) -> None:
    one = made("tflite", 1)
    found = judged(one, one.files[0])
    row = row_of(found, MICRO)
    assert found.verdict is Verdict.PASS
    assert (row.verdict, row.probes, row.note) == (Verdict.PASS, 12, "")
    assert row.error < 8
    assert row.apart < 8
    assert row.title.startswith("TFLite Micro 0.")


@needs_micro
def test_weights_outside_the_flatbuffer_are_a_silent_difference_that_fails(made: Any, tmp_path: Path) -> None:
    """LiteRT follows the offsets; TFLite Micro reads such weights as empty, and reports nothing."""
    one = made("tflite", 1)
    file = tmp_path / "outside.tflite"
    file.write_bytes(outside(one.files[0].read_bytes()))
    found = judged(one, file)
    assert found.verdict is Verdict.FAIL
    (reason,) = found.reasons
    assert (reason.subject, reason.kind) == (MICRO, ReasonKind.INTERPRETER_FAULT)
    assert reason.text.startswith("TFLite Micro 0.")
    assert "and LiteRT 2 do not compute the same from this file" in reason.text
    assert row_of(found, MICRO).verdict is Verdict.FAIL
    row = judged(one, file, evidence=Evidence(EvidenceLevel.EXPORTED))
    assert row.interpreters == (), "what no engine ran is not run by others"


@needs_micro
def test_what_an_interpreter_refuses_aloud_is_said_and_no_failure(
    made: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ULSAM_DEPLOY_PYTHON_TFLITE_RUNTIME", raising=False)  # the file's weights are not those of fp32
    one = made("tflite", 1)
    file = tmp_path / "half.tflite"
    file.write_bytes(tflite_precision._quantized(one.files[0].read_bytes(), tflite_precision._half(), None))
    with pytest.raises(ExportError, match="DEQUANTIZE"):
        plugins.load(plugins.RUNTIMES, MICRO)([file], one.artifact.inputs, one.artifact.outputs).__enter__()
    found = judged(one, file, evidence=Evidence(EvidenceLevel.EXECUTED, Verdict.PASS))
    row = row_of(found, MICRO)
    assert (found.verdict, row.verdict, row.probes) == (Verdict.PASS, Verdict.UNVERIFIED, 0)
    assert "Node DEQUANTIZE" in row.note


def test_one_that_is_not_installed_is_said_in_words(made: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    one, micro = made("tflite", 1), plugins.load(plugins.RUNTIMES, MICRO)
    monkeypatch.setattr(micro, "available", lambda: Availability(False, "not installed: tflite_micro", "install it"))
    found = judged(one, one.files[0])
    assert found.verdict is Verdict.PASS
    told = "tflite fp32: not run by tflite-micro: not installed: tflite_micro; install it"
    assert told in words.further_words("tflite fp32", found)


@needs_micro
@pytest.mark.long
def test_an_export_runs_every_interpreter_and_fails_where_one_differs(
    small_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    """The defect that this is for: the file passes in LiteRT, and microcontrollers get nothing of it."""
    asked = ["export", str(small_model), "--target", "tflite", "--json", "--no-cache"]
    convert = tflite_exporter._convert
    monkeypatch.setattr(tflite_exporter, "_convert", lambda *given: outside(convert(*given)))
    assert main([*asked, "-o", str(tmp_path / "net.bundle")]) == 1
    (record,) = json.loads(capsys.readouterr().out)["manifest"]["artifacts"]
    rows = {row["name"]: row["verdict"] for row in record["evidence"]["interpreters"]}
    assert rows[MICRO] == "fail"
    assert faults(record["evidence"]) == ["interpreter-fault"]
    assert main(["verify", str(tmp_path / "net.bundle"), "--json"]) == 1
    (again,) = json.loads(capsys.readouterr().out)["artifacts"]
    assert faults(again["evidence"]) == ["interpreter-fault"]
    file = str(tmp_path / "net.bundle" / "tflite" / "model.tflite")
    case = tmp_path / "case"
    assert main(["verify", file, "--against", str(small_model), "--json", "--reproduce", str(case)]) == 1
    against = json.loads(capsys.readouterr().out)["evidence"]
    assert faults(against) == ["interpreter-fault"]
    assert "tflite_micro" in (case / "reproduce.py").read_text()


@needs_micro
def test_an_interpreter_may_be_in_another_environment_and_may_crash_there(
    made: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = made("tflite", 1)
    micro = plugins.load(plugins.RUNTIMES, MICRO)
    monkeypatch.setattr(micro, "available", lambda: Availability(False, "not here"))
    variable = "ULSAM_DEPLOY_PYTHON_TFLITE_MICRO"
    monkeypatch.setenv(variable, sys.executable)
    assert row_of(judged(one, one.files[0]), MICRO).verdict is Verdict.PASS
    broken = tmp_path / "python"
    broken.write_text("#!/bin/sh\nkill -SEGV $$\n")
    broken.chmod(0o755)
    monkeypatch.setenv(variable, str(broken))
    found = judged(one, one.files[0])
    assert found.verdict is Verdict.PASS
    assert "crashed" in row_of(found, MICRO).note
    monkeypatch.setenv(variable, str(tmp_path / "nowhere"))
    with pytest.raises(UsageError, match="which is no program"):
        judged(one, one.files[0])


def test_probes_are_taken_from_all_over_in_whole_batches(made: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interpreters, "MOST", 4)
    found = interpreters._sample(golden_of(made("tflite", 1)), 2)
    assert found.probes == ("held-out-0", "held-out-1", "held-out-10", "held-out-11")


@needs_old
@pytest.mark.long
def test_tflite_runtime_reads_every_precision(made: Any, tmp_path: Path) -> None:
    """Scales of channels in a dynamic FULLY_CONNECTED are zero to it: our files have none, and others fail."""
    one = made("tflite", 1)
    content = one.files[0].read_bytes()
    assert row_of(judged(one, one.files[0]), OLD).verdict is Verdict.PASS
    manager = tflite_precision._manager()
    tflite_precision._add_dynamic(manager, ".*")
    plain = tflite_precision._manager()
    for product in tflite_precision.PRODUCTS:
        plain.add_dynamic_config(".*", product, 8)
    golden = golden_of(one)
    noisy = [{"logits": golden.outputs["logits"] * 1.02}]  # about as far as int8 is off
    loose = Golden.build(golden.inputs, golden.outputs, [], noisy, blocks=(), probes=golden.probes)
    apart = []
    for recipe in (manager, plain):
        file = tmp_path / "dynamic.tflite"
        file.write_bytes(tflite_precision._quantized(content, recipe, None))
        run = in_a_process([file], one.artifact.inputs, one.artifact.outputs, Limits())
        own = Evidence(EvidenceLevel.EXECUTED, Verdict.PASS, engine=EngineFacts("LiteRT", "2"))
        apart.append(row_of(with_interpreters(own, "tflite", loose, "fp32", 1, run), OLD).apart)
    assert apart[0] < 2 < 8 < apart[1], apart
