"""ncnn: the artifact computes what PyTorch computes, in each precision, and what it lacks is found."""

from __future__ import annotations

import json
import shutil
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ulsam_deploy.cli import main
from ulsam_deploy.device import plugins
from ulsam_deploy.device.bundle import read_bundle
from ulsam_deploy.device.errors import ExportError, UsageError
from ulsam_deploy.device.findings import AttentionState, Verdict
from ulsam_deploy.device.parity import Golden
from ulsam_deploy.device.types import Availability, TensorSpec
from ulsam_deploy.device.verify import execute
from ulsam_deploy.exporters import lowerings

HERE = find_spec("ncnn") is not None and find_spec("pnnx") is not None
pytestmark = [
    pytest.mark.ncnn,
    pytest.mark.skipif(not HERE, reason="ncnn and pnnx are not installed: make test-ncnn installs them"),
]
REFERENCE = Path(__file__).parents[2] / "models" / "cluttered_digits.pt"


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundle of the trained reference network in every precision; what bf16 gives depends on the processor."""
    bundle = tmp_path_factory.mktemp("reference") / "net.bundle"
    words = ["export", str(REFERENCE), "--target", "ncnn", "--precision", "fp32,fp16,bf16", "-o", str(bundle)]
    assert main(words) in (0, 1)
    return bundle


def test_output_is_that_of_float64_pytorch(made: Any) -> None:
    one = made("ncnn", 1)
    images = one.images(1)
    with one.session() as session:
        found = session.run({"input": images})["logits"]
    expected = one.reference(images)
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() / np.abs(expected).max() < 1e-6


def test_the_comparison_would_notice_missing_attention(made: Any) -> None:
    whole, without = made("ncnn", 1), made("ncnn", 1, attention=False)
    images = whole.images(1)
    with without.session() as session:
        found = session.run({"input": images})["logits"]
    expected = whole.reference(images)
    assert np.abs(found - expected).max() / np.abs(expected).max() > 1e-3


def test_an_engine_shows_its_values_and_its_options(made: Any) -> None:
    one = made("ncnn", 1)
    with one.session() as session:
        facts, inside = session.facts(), session.values({"input": one.images(1)})
    assert (facts.engine, facts.threads, facts.precision) == ("ncnn", 1, "fp32")
    assert not any(facts.details[name] for name in ("use_fp16_storage", "use_fp16_arithmetic", "use_bf16_storage"))
    assert not facts.details["use_winograd63_convolution"]
    maps = [array for array in inside.values() if array.size == 4 * 256 and np.allclose(array.sum(-1), 1, atol=1e-5)]
    assert maps, "the attention maps of the first block"


def test_without_the_file_of_options_ncnns_own_defaults_hold(made: Any) -> None:
    one = made("ncnn", 1)
    with one.runtime(one.files[:2], one.artifact.inputs, one.artifact.outputs) as session:
        assert session.facts().details["use_fp16_arithmetic"]


def test_batches_are_run_one_by_one(made: Any) -> None:
    one = made("ncnn", 1)
    images = one.images(3)
    with one.session() as session:
        alone = [session.run({"input": images[n : n + 1]})["logits"] for n in range(3)]
        session.inputs = tuple(TensorSpec(spec.name, (3, *spec.shape[1:])) for spec in session.inputs)
        session.outputs = tuple(TensorSpec(spec.name, (3, *spec.shape[1:])) for spec in session.outputs)
        assert np.array_equal(session.run({"input": images})["logits"], np.concatenate(alone))


def test_another_batch_is_refused_by_plan_and_exporter(
    small_model: Path, export_again: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["export", str(small_model), *["--target", "ncnn", "--batch", "4", "-o"], str(tmp_path / "net.bundle")]
    assert main(words) == 4
    assert "--batch 1" in capsys.readouterr().err
    with pytest.raises(UsageError, match="one input at a time"):
        export_again("ncnn", 4)


def test_the_same_network_gives_the_same_bytes(made: Any, export_again: Any) -> None:
    first, again = made("ncnn", 1), export_again("ncnn", 1)
    assert [path.read_bytes() for path in first.files] == [path.read_bytes() for path in again.files]


def test_the_reference_network_passes_in_fp32_and_fp16(reference: Path) -> None:
    bundle = read_bundle(reference)
    for record in [bundle.artifact("ncnn", precision) for precision in ("fp32", "fp16")]:
        parity, replay = record.evidence.parity, record.evidence.replay
        assert record.evidence.verdict is Verdict.PASS, record.evidence.reasons
        assert [block.state for block in parity.blocks] == [AttentionState.KEPT] * 4
        assert replay is not None
        assert replay.proves
        assert not replay.wrong
    sizes = {record.precision: sum(file.size for file in record.files) for record in bundle.manifest.artifacts}
    assert sizes["fp16"] < 0.55 * sizes["fp32"]
    assert bundle.artifact("ncnn", "fp16").evidence.engine.details["use_fp16_storage"]


def test_bf16_is_forecast_as_boards_cut_it(reference: Path) -> None:
    """ncnn rounds to bfloat16 where the processor has an instruction for it, and elsewhere drops the lower bits."""
    record = read_bundle(reference).artifact("ncnn", "bf16")
    if "avx512_bf16" in Path("/proc/cpuinfo").read_text():
        assert record.evidence.verdict is Verdict.PASS
        assert [block.retention > 0.9 for block in record.evidence.parity.blocks] == [True] * 4
    rows = {row.block: row for row in record.facts.resolution}
    assert {row.form for row in rows.values()} == {"cut"}
    assert rows["attention.3"].forecast < 0.8
    assert "in the form chosen here (cut)" in record.facts.suggestions[0]


@pytest.mark.usefixtures("reference")  # its prepared network is in the cache
def test_grouped_scores_that_ncnn_gets_wrong_in_bf16_are_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    """On x86 a convolution with groups gives garbage there, which is why our lowering has none."""
    exporter = type(plugins.load(plugins.EXPORTERS, "ncnn"))
    monkeypatch.setattr(exporter, "lowering", lambda _self, _request: lowerings.separate)
    monkeypatch.setattr(exporter, "available_in", lambda _self, _precision: Availability(True, "grouped"))  # not cached
    words = ["export", str(REFERENCE), "--target", "ncnn", "--precision", "fp16,bf16", "--json"]
    assert main([*words, "-o", str(tmp_path / "net.bundle")]) == 1
    half, brain = (one["evidence"] for one in json.loads(capsys.readouterr().out)["manifest"]["artifacts"])
    assert half["verdict"] == "pass"
    assert brain["verdict"] == "fail"
    states = [block["state"] for block in brain["parity"]["blocks"]]  # what is garbage differs from run to run
    assert "lost" in states


@pytest.mark.parametrize("block", [0, 3])
def test_removed_attention_is_caught(reference: Path, block: int, tmp_path: Path) -> None:
    """The file that ablation makes is the same artifact without one block's attention."""
    bundle = read_bundle(reference)
    record = bundle.artifact("ncnn", "fp32")
    exporter = plugins.load(plugins.EXPORTERS, "ncnn")
    model = bundle.files(record)[0]
    assert len(exporter.softmaxes(model)) == 4
    assert exporter.ablate(model, range(block, block + 1), tmp_path)
    files = [tmp_path / path.name for path in bundle.files(record)]
    assert all(path.is_file() for path in files)
    found = execute("ncnn", files, record.inputs, record.outputs, Golden.load(bundle.golden), timed=False)
    assert found.verdict is Verdict.FAIL
    states = [one.state for one in found.parity.blocks]
    assert states[block] is AttentionState.LOST
    assert not exporter.ablate(model, range(4, 5), tmp_path)


def test_a_shifted_weight_is_found_at_its_module(small_model: Path, tmp_path: Path, capsys: Any) -> None:
    """``verify --against`` reads its file without a bundle, and names the module that is wrong."""
    assert main(["export", str(small_model), "--target", "ncnn", "-o", str(tmp_path / "net.bundle")]) == 0
    folder = tmp_path / "net.bundle" / "ncnn"
    words = ["verify", str(folder / "model.param"), "--against", str(small_model), "--json"]
    assert main(words) == 0
    capsys.readouterr()
    first = next(line for line in (folder / "model.param").read_text().splitlines() if line.startswith("Convolution "))
    count = int(next(word for word in first.split() if word.startswith("6=")).removeprefix("6="))
    content = bytearray((folder / "model.bin").read_bytes())
    content[4 + 4 * count : 8 + 4 * count] = np.float32(1.0).tobytes()  # its first bias, behind a flag and its weights
    (folder / "model.bin").write_bytes(bytes(content))
    assert main(words) == 1
    reasons = json.loads(capsys.readouterr().out)["evidence"]["reasons"]
    assert any(reason["subject"].startswith("features.0") for reason in reasons), reasons


def test_another_tools_file_says_no_shape(made: Any, tmp_path: Path, small_model: Path, capsys: Any) -> None:
    """pnnx writes none, so that what to check it with is not known; broken files are words, too."""
    one = made("ncnn", 1)
    for path in one.files:
        shutil.copyfile(path, tmp_path / path.name)
    param = tmp_path / "model.param"
    text = param.read_text()
    param.write_text(text.replace(" 0=32 1=32 2=3", ""))
    assert main(["verify", str(param), "--against", str(small_model)]) == 4
    assert "does not say what shape" in capsys.readouterr().err
    param.write_text(text[: len(text) // 2])
    assert main(["verify", str(param), "--against", str(small_model)]) == 3
    with pytest.raises(ExportError, match=r"no \.param"):
        plugins.load(plugins.EXPORTERS, "ncnn").softmaxes(one.files[1].with_name("model.options.json"))


def test_bench_times_it_in_turns_with_the_other_engines(small_model: Path, tmp_path: Path, capsys: Any) -> None:
    place = str(tmp_path / "net.bundle")
    assert main(["export", str(small_model), "--target", "ncnn,onnx", "-o", place]) == 0
    capsys.readouterr()
    main(["bench", place, "--profile", "quick", "--target", "ncnn,onnx", "--json"])  # a busy machine may be exit 5
    found = json.loads(capsys.readouterr().out)
    assert {one["target"] for one in found["measured"]} == {"ncnn", "onnx"}
    assert len(found["comparisons"]) == 1
