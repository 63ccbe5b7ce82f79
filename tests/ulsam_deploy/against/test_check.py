"""Artifacts by other tools, good and bad, held against a checkpoint on the real engines."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from ulsam_deploy.against import Foreign, Question, verify_against
from ulsam_deploy.cli import main
from ulsam_deploy.device import plugins
from ulsam_deploy.device.errors import Exit, UsageError
from ulsam_deploy.device.findings import Verdict
from ulsam_deploy.device.progress import Progress
from ulsam_deploy.device.types import Artifact
from ulsam_deploy.exporting import pipeline
from ulsam_deploy.exporting.network import network_stages
from ulsam_deploy.exporting.options import ExportOptions
from ulsam_deploy.graph.interfaces import ExportRequest

from .conftest import SIZE, naive_onnx

QUIET = Progress(quiet=True)


def verify(small: Path, artifact: Path, **asked: Any) -> Foreign:
    return verify_against(ExportOptions(small), Question(artifact, **asked), QUIET)


def test_a_naive_onnx_file_passes_whatever_its_names(small: Path, good_onnx: Path) -> None:
    found = verify(small, good_onnx)
    assert (found.evidence.verdict, found.evidence.reasons) == (Verdict.PASS, ())
    assert found.exit_code == Exit.OK
    assert found.evidence.parity
    assert [block.state for block in found.evidence.parity.blocks] == ["kept", "kept"]
    assert "output 'scores' is taken as the network's 'logits'" in found.notes


def test_channels_last_and_a_dynamic_batch_are_worked_out(small: Path, network: Any, folder: Path) -> None:
    import torch

    class ChannelsFirst(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.permute(0, 3, 1, 2)

    turned = torch.nn.Sequential(ChannelsFirst(), network).eval()
    path, axes = folder / "nhwc.onnx", {"pixels": {0: "n"}}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        images = (torch.zeros(2, SIZE, SIZE, 3),)
        torch.onnx.export(turned, images, path, dynamo=False, input_names=["pixels"], dynamic_axes=axes)
    found = verify(small, path)
    assert found.evidence.verdict is Verdict.PASS
    assert found.case.inputs["x"].shape == (None, 3, SIZE, SIZE)
    assert "input 'pixels' is taken as NHWC" in found.notes
    with pytest.raises(UsageError, match="as NCHW does not fit"):
        verify(small, path, layout="NCHW")


def test_a_static_batch_of_three_is_honoured(small: Path, network: Any, folder: Path) -> None:
    assert verify(small, naive_onnx(network, folder / "three.onnx", batch=3)).evidence.verdict is Verdict.PASS


@pytest.mark.long
def test_an_openvino_conversion_by_somebody_else(small: Path, network: Any, stale: Any, folder: Path) -> None:
    import torch

    from ulsam_deploy.device.third_party import load_openvino

    openvino = load_openvino()
    for name, module, verdict in (("good", network, Verdict.PASS), ("stale", stale, Verdict.FAIL)):
        path = folder / f"{name}.xml"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            converted = openvino.convert_model(module, example_input=torch.zeros(1, 3, SIZE, SIZE))
        openvino.save_model(converted, path, compress_to_fp16=False)
        found = verify(small, path)
        assert found.evidence.verdict is verdict, found.evidence.reasons
        assert found.case.files == (path, path.with_suffix(".bin"))
    assert "Where: 'features.7.pw" in found.evidence.reasons[-1].text


@pytest.mark.long
def test_float16_is_judged_as_float16_and_stale_weights_are_seen_there_too(
    small: Path, network: Any, folder: Path
) -> None:
    import torch

    half = copy.deepcopy(network)
    with torch.no_grad():
        half.classifier[1].weight.neg_()
    for name, module in (("half", network), ("half-stale", half)):
        path = folder / f"{name}.onnx"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            images = (torch.zeros(1, 3, SIZE, SIZE).half(),)
            torch.onnx.export(copy.deepcopy(module).half(), images, path, dynamo=False)
    found = verify(small, folder / "half.onnx")
    assert found.precision == "fp16"
    assert found.evidence.verdict in (Verdict.PASS, Verdict.INCONCLUSIVE), found.evidence.reasons
    assert any("judged as fp16" in note for note in found.notes)
    assert verify(small, folder / "half.onnx", precision="fp32").evidence.verdict is Verdict.FAIL
    assert verify(small, folder / "half-stale.onnx").evidence.verdict is Verdict.FAIL


def test_dead_attention_is_named(small: Path, good_onnx: Path, folder: Path) -> None:
    """The last block's result is replaced by what goes into it, by an edit of the ONNX file."""
    model = onnx.load(good_onnx)
    concats = [node for node in model.graph.node if node.op_type == "Concat" and "attention.5" in node.name]
    slices = [node for node in model.graph.node if "attention.5" in node.name and node.op_type in ("Split", "Slice")]
    for node in model.graph.node:
        node.input[:] = [slices[0].input[0] if name == concats[-1].output[0] else name for name in node.input]
    path = folder / "dead.onnx"
    onnx.save(model, path)
    found = verify(small, path)
    assert found.evidence.verdict is Verdict.FAIL
    assert any("block 'attention.5' is lost" in reason.text for reason in found.evidence.reasons)
    assert "'attention.5" in found.evidence.reasons[-1].text
    assert found.evidence.reasons[-1].text.startswith("Where:")


def test_another_number_of_classes_fails_and_says_so(small: Path, network: Any, folder: Path) -> None:
    import torch

    wider = copy.deepcopy(network)
    wider.classifier[1] = torch.nn.Linear(wider.classifier[1].in_features, 9)
    found = verify(small, naive_onnx(wider, folder / "wider.onnx"))
    assert found.exit_code == Exit.CHECK_FAILED
    assert "shape 24x9; the reference has 24x5" in found.evidence.reasons[0].text
    assert "'classifier.1' is the first module" in found.evidence.reasons[-1].text


@pytest.mark.long
def test_tflite_good_and_with_one_weight_changed(small: Path, folder: Path, tmp_path: Path) -> None:
    exporter, options = plugins.load(plugins.EXPORTERS, "tflite"), ExportOptions(small)
    from ulsam_deploy.graph import lower

    network = network_stages(options, QUIET)
    lowered = lower(network.fused().program, exporter.lowering(ExportRequest()))
    artifact = exporter.export(lowered, ExportRequest(), folder)
    weight = network.loaded().source.model.classifier[1].weight.detach().numpy()
    path = folder / artifact.files[0]
    assert verify(small, path).evidence.verdict is Verdict.PASS
    content = path.read_bytes()
    assert content.count(weight.tobytes()) == 1, "the classifier's weights are not stored as they are"
    bad = folder / "bad.tflite"
    bad.write_bytes(content.replace(weight.tobytes(), (weight * np.float32(1.01)).tobytes()))
    found = verify(small, bad, reproduce=tmp_path / "shown")
    assert found.evidence.verdict is Verdict.FAIL
    assert "'classifier.1' is the first module" in found.evidence.reasons[-1].text
    script = (tmp_path / "shown" / "reproduce.py").read_text().splitlines()
    assert len([line for line in script if line]) == 9
    said = subprocess.run(
        [sys.executable, "reproduce.py"], cwd=tmp_path / "shown", capture_output=True, text=True, check=True
    )
    assert "differs by up to" in said.stdout


def test_a_failing_export_of_our_own_says_where(small: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    exporter = plugins.load(plugins.EXPORTERS, "onnx")
    sound = exporter.export

    def careless(program: Any, request: ExportRequest, where: Path) -> Artifact:
        artifact: Artifact = sound(program, request, where)
        model = onnx.load(where / "model.onnx")
        weight = next(w for w in model.graph.initializer if list(w.dims) == [5, 256])
        weight.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weight) * np.float32(1.01), weight.name))
        onnx.save(model, where / "model.onnx")
        return artifact

    monkeypatch.setattr(type(exporter), "export", lambda _, *words: careless(*words))
    result = pipeline.export(ExportOptions(small, targets=("onnx",), output=folder / "own.bundle", cache=False), QUIET)
    assert result.exit_code == Exit.CHECK_FAILED
    assert result.bundle
    assert "'classifier.1' is the first module" in result.bundle.manifest.artifacts[0].evidence.reasons[-1].text


def test_the_command_reports_and_leaves_a_reproduction(
    small: Path, stale_onnx: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "show"
    words = ["verify", "--against", str(small), str(stale_onnx), "--reproduce", str(folder), "--json"]
    assert main(words) == Exit.CHECK_FAILED
    document = json.loads(capsys.readouterr().out)
    assert document["schema"] == "ulsam-deploy.verify-against/4"
    assert document["evidence"]["verdict"] == "fail"
    assert document["exit_code"] == 1
    assert "Where: 'features.7.pw" in document["evidence"]["reasons"][-1]["text"]
    assert sorted(path.name for path in folder.iterdir()) == ["case.npz", "reproduce.py", "stale.onnx"]
    script = (folder / "reproduce.py").read_text().splitlines()
    assert len([line for line in script if line]) == 10, "short enough to paste into a bug report"
    shown = subprocess.run([sys.executable, "reproduce.py"], cwd=folder, capture_output=True, text=True, check=True)
    with np.load(folder / "case.npz") as case:
        apart = float(np.abs(case["found 0"] - case["expected 0"]).max())
    assert f"differs by up to {apart:.2g}"[:-1] in shown.stdout
    assert apart > 0
    assert main(words) == Exit.USAGE, "a folder with something in it is never written to"


def test_a_fault_that_shows_beside_another_image_only_is_located_and_reproduced(
    small: Path, network: Any, folder: Path, tmp_path: Path
) -> None:
    """The second image of a batch gets other weights in one layer: alone, every image is right."""
    import torch

    class Second(torch.nn.Module):
        def __init__(self, layer: torch.nn.Module) -> None:
            super().__init__()
            self.layer = layer

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = self.layer(x)
            return torch.cat([y[:1], 1.01 * y[1:2], y[2:]])

    wrong = copy.deepcopy(network)
    wrong.features[7].pw[0] = Second(wrong.features[7].pw[0])
    path, axes = folder / "second.onnx", {"x": {0: "n"}, "y": {0: "n"}}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        images = torch.zeros(3, 3, SIZE, SIZE)
        torch.onnx.export(
            wrong, (images,), path, dynamo=False, input_names=["x"], output_names=["y"], dynamic_axes=axes
        )
    shown = tmp_path / "shown"
    found = verify(small, path, reproduce=shown)
    assert found.evidence.verdict is Verdict.FAIL
    assert "Where: 'features.7.pw" in found.evidence.reasons[-1].text
    with np.load(shown / "case.npz") as case:
        apart = np.abs(case["found 0"] - case["expected 0"]).max(1)
    assert len(apart) in (2, 5, 15)
    assert apart[1] > 1e3 * np.delete(apart, 1).max(), apart
    said = subprocess.run([sys.executable, "reproduce.py"], cwd=shown, capture_output=True, text=True, check=True)
    assert f"differs by up to {apart.max():.2g}"[:-1] in said.stdout


def test_no_reproduction_of_a_pass(small: Path, good_onnx: Path, tmp_path: Path) -> None:
    found = verify(small, good_onnx, reproduce=tmp_path / "none")
    assert not found.reproduced
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        ("--against {small} {folder}/model.h5", 2, ".onnx"),
        ("--against {small} {folder}/none.onnx", 2, "no file"),
        ("--against {small} {folder}/engine.plan", 6, "--trust-native"),
        ("--against {small} --input 3x64x64 {good}", 2, "--input"),
        ("--against {small} --target onnx {good}", 2, "--target"),
        ("{good}", 2, "--against MODEL"),
        ("--layout NHWC {folder}", 2, "--layout needs --against"),
        ("--against {small} {folder}/text.onnx", 3, "text.onnx"),
        ("--against {small} {folder}/text.tflite", 3, "text.tflite"),
        ("--against {folder}/none.pt {good}", 2, "none.pt"),
    ],
)
def test_bad_words_and_files(
    small: Path, good_onnx: Path, folder: Path, capsys: pytest.CaptureFixture[str], words: str, code: int, said: str
) -> None:
    for name in ("model.h5", "engine.plan", "text.onnx", "text.tflite"):
        (folder / name).write_text("nothing that an engine reads")
    filled = words.format(small=small, folder=folder, good=good_onnx)
    assert main(["verify", *filled.split()]) == code
    shown = capsys.readouterr().err
    assert said in shown
    assert "Traceback" not in shown


def test_int8_is_judged_by_ranges_and_nothing_else_is(small: Path, good_onnx: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="int8 is judged by ranges") as told:
        verify(small, good_onnx, precision="int8")
    assert "--calibration" in told.value.todo
    options = ExportOptions(small, calibration=tmp_path / "real.npz")
    with pytest.raises(UsageError, match="a calibration set means nothing for fp32"):
        verify_against(options, Question(good_onnx), QUIET)


@pytest.mark.long
def test_another_network_is_no_sound_int8(small: Path, good_onnx: Path, tmp_path: Path) -> None:
    """The right weights in float32 are within int8's noise; a classifier turned round and scaled is not."""
    np.savez(tmp_path / "real.npz", x=np.random.default_rng(3).normal(size=(40, 3, SIZE, SIZE)).astype(np.float32))
    options = ExportOptions(small, calibration=tmp_path / "real.npz")
    model = onnx.load(good_onnx)
    weights = [tensor for tensor in model.graph.initializer if "classifier" in tensor.name]
    for tensor in weights:
        tensor.CopyFrom(numpy_helper.from_array(-9 * numpy_helper.to_array(tensor), tensor.name))
    assert weights
    onnx.save(model, tmp_path / "turned.onnx")
    found = {
        path.name: verify_against(options, Question(path, precision="int8"), QUIET).evidence
        for path in (good_onnx, tmp_path / "turned.onnx")
    }
    assert found["good.onnx"].verdict is not Verdict.FAIL, found["good.onnx"].reasons
    assert found["turned.onnx"].verdict is Verdict.FAIL
