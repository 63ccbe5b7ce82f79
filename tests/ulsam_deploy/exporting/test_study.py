"""What an exporter's study shows where no engine runs: its figures reach the manifest, and a failure the exit code."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import ulsam_deploy.graph
from ulsam_deploy.device import verify
from ulsam_deploy.device.errors import Exit
from ulsam_deploy.device.findings import ArtifactFacts, EngineFacts, Floor, Reason, ReasonKind, StudyFacts, Verdict
from ulsam_deploy.device.parity import Golden, PrecisionFloors
from ulsam_deploy.device.types import Artifact, EvidenceLevel, TensorSpec
from ulsam_deploy.exporting.build import build
from ulsam_deploy.exporting.network import FusedNetwork, NetworkStages
from ulsam_deploy.exporting.options import ExportOptions, Recipe
from ulsam_deploy.exporting.outcome import Outcome
from ulsam_deploy.exporting.prepare import Prepared
from ulsam_deploy.graph.interfaces import Study

FACTS = ArtifactFacts(extra={"opset": 17})


def said(sentence):
    return Reason("nothing", ReasonKind.STUDY_NOTE, sentence)


class Stub:
    """An exporter whose target no engine runs."""

    target = "nothing"

    def __init__(self, study):
        self._study = study

    def lowering(self, request):
        return None

    def rewrites(self):
        return {}

    def export(self, program, request, folder):
        return Artifact("nothing", "fp32", (), (), (), EvidenceLevel.PARSED, {}, FACTS)

    def study(self, artifact, folder, golden):
        assert golden == "golden"
        return self._study


@pytest.mark.parametrize(
    ("study", "verdict", "code"),
    [
        (None, Verdict.UNVERIFIED, Exit.OK),
        (Study(Verdict.UNVERIFIED, (said("As it should be."),), StudyFacts(("p1",))), Verdict.UNVERIFIED, Exit.OK),
        (Study(Verdict.FAIL, (said("The padding is wrong."),), StudyFacts(("p2",))), Verdict.FAIL, Exit.CHECK_FAILED),
    ],
)
def test_a_study_is_kept_and_decides_only_by_failing(
    study: Any, verdict: Any, code: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(ulsam_deploy.graph, "lower", lambda *_: SimpleNamespace(blocks=()))
    options = ExportOptions(Path("m.pt"), targets=("nothing",))
    fused = FusedNetwork(None, SimpleNamespace(check=lambda *_: 0.0), None)
    network = NetworkStages("digest", "key", [], None, None, None, lambda: fused)
    prepared = Prepared(network, tmp_path, None, "golden", (), 1, (), None, None)
    made = build(prepared, Stub(study), Recipe(), options, tmp_path)
    assert made.artifact.facts == replace(FACTS, study=study.facts if study else None)
    assert (made.evidence.verdict, made.evidence.level) == (verdict, EvidenceLevel.PARSED)
    assert made.evidence.reasons[1:] == (study.reasons if study else ())
    assert Outcome("nothing", "fp32", "nothing", made).exit_code(options) == code


def test_an_fp16_artifact_is_held_against_fp16s_rounding(monkeypatch: pytest.MonkeyPatch) -> None:
    """An error of 1e-3 is a failure in fp32 and sound in fp16; one of 1 is a failure in both."""
    random = np.random.default_rng(0)
    x = random.normal(size=(8, 5))
    truth = Golden(
        {"x": x.astype(np.float32)}, {"y": x}, {"y": np.zeros((0, 8, 5), np.float32)}, {"y": (5,)},
        {"y": Floor(1e-7, 3e-7, 3)}, (), tuple(f"p{i}" for i in range(8)),
        precision_floors={"fp16": PrecisionFloors({"y": Floor(1e-3, 3e-3, 3)}, tuple(range(8)))},
    )  # fmt: skip

    class Engine:
        error = 0.0
        inputs = (TensorSpec("x", (None, 5)),)

        def __init__(self, *_, **__):
            pass

        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

        def run(self, inputs):
            return {"y": inputs["x"].astype(np.float64) + self.error * np.sign(inputs["x"])}

        def facts(self):
            return EngineFacts("engine", "1")

    monkeypatch.setattr(verify, "runtime_for", lambda target: Engine)
    found = {}
    for Engine.error in (1e-3, 1.0):
        for precision in ("fp32", "fp16"):
            shown = verify.execute("trt", (), (), (), truth, precision=precision, timed=False)
            found[Engine.error, precision] = shown.verdict is Verdict.FAIL
    assert found == {(1e-3, "fp32"): True, (1e-3, "fp16"): False, (1.0, "fp32"): True, (1.0, "fp16"): True}
