"""The main promise at full size: the paper's networks at 224 x 224 agree with the float64 reference on every engine."""

from __future__ import annotations

from pathlib import Path

import pytest

from ulsam_deploy.cli import main
from ulsam_deploy.device.findings import Verdict
from ulsam_deploy.device.progress import Progress
from ulsam_deploy.exporting import pipeline
from ulsam_deploy.exporting.options import ExportOptions

NETWORKS = {
    "v1-inserted": "mobilenet_v1 --insert 9,12",
    "v1-substituted": "mobilenet_v1 --substitute 8",
    "v2-inserted": "mobilenet_v2 --insert 6,14",
    "v2-substituted": "mobilenet_v2 --substitute 12,13,15,16",
}


@pytest.fixture(scope="module", params=NETWORKS)
def network(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("networks") / f"{request.param}.pt"
    assert main(["new", *NETWORKS[request.param].split(), "-o", str(path)]) == 0
    return path


@pytest.mark.slow
@pytest.mark.parametrize("batch", [1, 4, None])
def test_every_engine_is_within_eight_noise_floors(network: Path, batch: int | None, tmp_path: Path) -> None:
    targets = ("onnx", "openvino") if batch is None else ("onnx", "openvino", "tflite")
    options = ExportOptions(network, targets=targets, batch=batch, output=tmp_path / "m.bundle", cache=False)
    result = pipeline.export(options, Progress(quiet=True))
    assert result.bundle
    found = {record.target: record.evidence for record in result.bundle.manifest.artifacts}
    assert set(found) == set(targets)
    for target, evidence in found.items():
        assert evidence.verdict is Verdict.PASS, (target, evidence.reasons)
        assert evidence.parity
        assert {block.state.value for block in evidence.parity.blocks} == {"kept"}
        print(network.stem, batch, target, [round(o.error, 2) for o in evidence.parity.outputs],
              [round(b.retention, 3) for b in evidence.parity.blocks])  # fmt: skip
