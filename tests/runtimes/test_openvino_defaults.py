"""What OpenVINO computes in where nobody asks it for float32, and that a bundle tells."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.ulsam_deploy.handmade import make_bundle
from ulsam_deploy.cli import main
from ulsam_deploy.device import verify
from ulsam_deploy.device.bundle import Bundle, Evidence
from ulsam_deploy.device.commands.words import further_rows, further_words
from ulsam_deploy.device.engines import runtime_for
from ulsam_deploy.device.findings import Agreement, AgreementBudget, OutputAgreement, PlainRun, Verdict
from ulsam_deploy.device.parity import Golden
from ulsam_deploy.device.third_party import load_openvino
from ulsam_deploy.device.types import EvidenceLevel
from ulsam_deploy.device.verify import execute_again

BOTH = ("onnx", "openvino")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return make_bundle(tmp_path_factory.mktemp("plain") / "dense.bundle", BOTH, batch=4)


def executed(bundle: Bundle, target: str) -> Any:
    assert bundle.golden
    golden = Golden.load(bundle.golden)
    return execute_again(bundle, bundle.artifact(target, "fp32"), golden, timed=False, threads=1)


def default() -> str:
    return runtime_for("openvino").default_precision()


def test_the_default_is_what_the_processor_has() -> None:
    capabilities = load_openvino().Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    assert default() in ("", "bf16", "f16")
    assert (default() == "bf16") <= ("BF16" in capabilities)


def test_the_artifact_s_own_precision_is_asked_for_and_passes(bundle: Bundle) -> None:
    evidence = executed(bundle, "openvino")
    assert (evidence.verdict, evidence.engine.precision) == (Verdict.PASS, "fp32")
    assert evidence.engine.details.get("default_precision", "") == default()
    assert (evidence.plain is not None) == bool(default())


def test_an_engine_without_such_defaults_has_no_further_row(bundle: Bundle) -> None:
    assert executed(bundle, "onnx").plain is None


def test_what_differs_is_measured(bundle: Bundle) -> None:
    if not default():
        pytest.skip("this processor computes in float32 by default")
    evidence = executed(bundle, "openvino")
    assert evidence.plain
    assert (evidence.plain.precision, evidence.plain.verdict) == (default(), Verdict.FAIL)
    assert evidence.plain.error > 100 * evidence.parity.error


def test_no_setting_in_the_file_is_heeded(bundle: Bundle, tmp_path: Path) -> None:
    """The day that this fails, the exporter can write the precision into the file."""
    if not default():
        pytest.skip("this processor computes in float32 by default")
    openvino = load_openvino()
    core = openvino.Core()
    model = core.read_model(bundle.files(bundle.artifact("openvino", "fp32"))[0])
    model.set_rt_info("f32", ["runtime_options", "INFERENCE_PRECISION_HINT"])
    openvino.save_model(model, tmp_path / "m.xml", compress_to_fp16=False)
    assert '<INFERENCE_PRECISION_HINT value="f32" />' in (tmp_path / "m.xml").read_text()
    compiled = core.compile_model(tmp_path / "m.xml", "CPU")
    assert compiled.get_property("INFERENCE_PRECISION_HINT").to_string() == default()


class Bfloat16(runtime_for("onnx")):
    """ONNX Runtime, as if its defaults rounded results to bfloat16, on any processor."""

    @classmethod
    def default_precision(cls) -> str:
        return "bf16"

    def _run(self, inputs: dict[str, Any]) -> dict[str, Any]:
        produced = super()._run(inputs)
        if self.precise:
            return dict(produced)
        return {name: (array.view(np.uint32) & 0xFFFF0000).view(np.float32) for name, array in produced.items()}


def test_it_is_told_on_every_processor(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verify, "runtime_for", lambda _target: Bfloat16)
    evidence = executed(bundle, "onnx")
    assert evidence.verdict is Verdict.PASS
    assert (evidence.plain.precision, evidence.plain.verdict) == ("bf16", Verdict.FAIL)
    assert evidence.plain.error > 8


def test_its_agreement_is_told_as_well(bundle: Bundle) -> None:
    record = bundle.artifact("openvino", "fp32")
    agreement = Agreement(48, AgreementBudget(), (OutputAgreement("y", 0.0081, None, None, Verdict.PASS),))
    evidence = Evidence(EvidenceLevel.EXECUTED, plain=PlainRun("bf16", Verdict.FAIL, 59772.7, agreement))
    (row,) = further_rows(record.target, record.files[0].path, evidence)
    assert row[1::3] == ("openvino/model.xml by the engine's defaults: bf16", "59772.70x noise", "fail")
    (sentence,) = further_words(f"{record.target} {record.precision}", evidence)
    assert "computes in bf16 on this machine, off by 0.0081 of the variation" in sentence


def test_verify_shows_it_in_a_row_of_its_own(bundle: Bundle, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", str(bundle.root)]) == 0
    shown = capsys.readouterr().out
    assert main(["verify", str(bundle.root), "--json"]) == 0
    found = {one["target"]: one["evidence"]["plain"] for one in json.loads(capsys.readouterr().out)["artifacts"]}
    assert found["onnx"] is None
    assert (found["openvino"] is not None) == bool(default())
    assert ("by the engine's defaults: " in shown) == bool(default())
    assert ("opened without options, its engine computes in" in shown) == bool(default())
