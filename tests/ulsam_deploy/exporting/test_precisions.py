"""The pipeline in low precision, end to end: the trained network, real images to calibrate on, every engine here."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from ulsam_deploy.cli import main
from ulsam_deploy.device import plugins
from ulsam_deploy.device.bundle import read_bundle
from ulsam_deploy.device.errors import Exit
from ulsam_deploy.device.findings import Verdict
from ulsam_deploy.device.images import NAMED
from ulsam_deploy.device.precisions import SEARCHED
from ulsam_deploy.device.progress import Progress
from ulsam_deploy.device.types import EvidenceLevel
from ulsam_deploy.device.verify import verify_bundle
from ulsam_deploy.exporting import pipeline
from ulsam_deploy.exporting.options import ExportOptions
from ulsam_deploy.models.digits import cluttered_digits

pytestmark = pytest.mark.slow  # 'make test-search'


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As a user would store them: 8-bit pixels, whose preprocessing is stated."""
    pytest.importorskip("sklearn", reason="scikit-learn is not installed")
    path = tmp_path_factory.mktemp("calibration") / "digits.npz"
    images, _ = cluttered_digits("train", 128, 100)
    np.savez(path, x=(images.transpose(0, 2, 3, 1) * 255).round().astype(np.uint8))
    return path


def exported(checkpoint: Path, samples: Path, into: Path, targets: tuple[str, ...], *precisions: str):
    options = ExportOptions(
        checkpoint,
        targets=targets,
        output=into,
        precisions=precisions,
        calibration=samples,
        preprocessing=NAMED["unit-grey"],
        cache=False,
    )
    return pipeline.export(options, Progress(quiet=True))


@pytest.fixture(scope="module")
def onnx_int8(checkpoint: Path, samples: Path, tmp_path_factory: pytest.TempPathFactory) -> pipeline.Exported:
    return exported(checkpoint, samples, tmp_path_factory.mktemp("b") / "m.bundle", ("onnx",), "int8")


def test_int8_passes_with_every_block_alive(onnx_int8: pipeline.Exported) -> None:
    assert onnx_int8.exit_code is Exit.OK
    assert onnx_int8.bundle
    (record,) = onnx_int8.bundle.manifest.artifacts
    assert (record.precision, record.evidence.level, record.evidence.verdict) == (
        "int8",
        EvidenceLevel.EXECUTED,
        Verdict.PASS,
    )
    assert [block.state for block in record.evidence.parity.blocks] == ["kept"] * 4


def test_the_manifest_says_how_it_was_made(onnx_int8: pipeline.Exported) -> None:
    assert onnx_int8.bundle
    manifest = read_bundle(onnx_int8.bundle.root).manifest
    (record,) = manifest.artifacts
    assert manifest.model.preprocessing == NAMED["unit-grey"]
    assert record.evidence.engine.precision == "int8"
    assert record.evidence.engine.layer_precisions["int8"] > 50
    assert record.facts.calibration.samples == 96
    assert len(record.facts.calibration.sha256) == 64
    assert [row.block for row in record.facts.resolution] == [block.path for block in manifest.model.blocks]
    assert all(row.measured == pytest.approx(row.forecast, abs=0.5) for row in record.facts.resolution)


def test_as_a_strangers_file_it_is_judged_as_int8(
    onnx_int8: pipeline.Exported, checkpoint: Path, samples: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The file alone passes with the figures of the export; without one block's attention it fails by its name."""
    assert onnx_int8.bundle
    (record,) = onnx_int8.bundle.manifest.artifacts
    (file,) = onnx_int8.bundle.files(record)
    words = ["--against", str(checkpoint), "--precision", "int8", "--json", "--calibration", str(samples)]
    words += ["--preprocessing", "unit-grey"]
    assert main(["verify", str(file), *words]) == Exit.OK
    found = json.loads(capsys.readouterr().out)["evidence"]["parity"]
    assert [block["state"] for block in found["blocks"]] == ["kept"] * 4
    assert found["outputs"][0]["error"] == record.evidence.parity.outputs[0].error
    assert plugins.load(plugins.EXPORTERS, "onnx").ablate(file, range(1, 2), tmp_path)
    assert main(["verify", str(tmp_path / file.name), *words]) == Exit.CHECK_FAILED
    reasons = json.loads(capsys.readouterr().out)["evidence"]["reasons"]
    (lost,) = [one for one in reasons if one["kind"] == "attention-fault"]
    assert lost["text"].startswith("The attention of block 'attention.6' is lost")


def test_a_device_judges_by_the_ablations_in_the_bundle(onnx_int8: pipeline.Exported, tmp_path: Path) -> None:
    """The same verdict again from the files alone; and a dead block in another file of that name is found."""
    assert onnx_int8.bundle
    (checked,) = verify_bundle(read_bundle(onnx_int8.bundle.root))
    assert checked.evidence
    assert checked.evidence.verdict is Verdict.PASS
    from ulsam_deploy.device.parity import Golden
    from ulsam_deploy.device.verify import execute

    record, root = checked.record, onnx_int8.bundle.root
    (file,) = onnx_int8.bundle.files(record)
    exporter = plugins.load(plugins.EXPORTERS, "onnx")
    assert exporter.ablate(file, range(1, 2), tmp_path)
    dead = execute(
        "onnx", [tmp_path / file.name], record.inputs, record.outputs, Golden.load(root / "golden.npz"),
        precision="int8", timed=False,
    )  # fmt: skip
    assert dead.verdict is Verdict.FAIL
    assert any("'attention.6' is lost" in reason.text for reason in dead.reasons)


def test_int8_by_the_command_line(
    checkpoint: Path, samples: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["export", str(checkpoint), "--target", "tflite", "--precision", "int8", "--calibration", str(samples)]
    words += ["--preprocessing", "unit-grey", "-o", str(tmp_path / "m.bundle"), "--json"]
    assert main(words) == 0
    (record,) = json.loads(capsys.readouterr().out)["manifest"]["artifacts"]
    assert record["evidence"]["verdict"] == "pass"
    assert record["facts"]["attention"] == "float"
    assert record["toolchain"]["ai-edge-quantizer"]
    shutil.rmtree(tmp_path / "m.bundle")


def test_every_precision_of_every_target(checkpoint: Path, samples: Path, tmp_path: Path) -> None:
    found = exported(checkpoint, samples, tmp_path / "m.bundle", ("all",), *SEARCHED)
    assert found.exit_code is Exit.OK
    assert found.bundle
    made = {(r.target, r.precision): r for r in found.bundle.manifest.artifacts}
    runs = [(t, p) for t in ("onnx", "openvino", "tflite") for p in ("fp32", "fp16", "int8")]
    for key in [*runs, ("tflite", "int8-dynamic")]:
        assert made[key].evidence.verdict is Verdict.PASS, (key, made[key].evidence.reasons)
    for precision in ("fp32", "fp16", "int8"):
        assert made["trt", precision].evidence.verdict is not Verdict.FAIL
    sizes = {key: sum(file.size for file in record.files) for key, record in made.items()}
    for target in ("onnx", "openvino", "tflite", "trt"):
        assert sizes[target, "int8"] < sizes[target, "fp16"] < sizes[target, "fp32"]
