"""The table of edited files: each kind of worsening ends ``compare`` with 1, what was measured otherwise with 5."""

from __future__ import annotations

import copy
import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ulsam_deploy.boards.emulate.counting import Counts, Phase
from ulsam_deploy.cli import main
from ulsam_deploy.cli.bench_count import CountDocument, CountedArtifact
from ulsam_deploy.device import codec
from ulsam_deploy.device.accuracy import Accuracy
from ulsam_deploy.device.accuracy.measuring import Share
from ulsam_deploy.device.bench.result import Parity
from ulsam_deploy.device.bundle import Evidence
from ulsam_deploy.device.commands.documents import Verified, VerifyDocument
from ulsam_deploy.device.findings import (
    Agreed,
    Agreement,
    AgreementBudget,
    ArtifactFacts,
    AttentionState,
    BlockCheck,
    DlaFacts,
    EngineFacts,
    Floor,
    OutputAgreement,
    OutputCheck,
    Quantized,
    Replay,
    ReplayedModule,
    Report,
    Statistic,
    TensorRTFacts,
    Verdict,
)
from ulsam_deploy.device.types import Block, EvidenceLevel

from ..device.bench.results import measured, noisy, result
from ..handmade import make_bundle

Edit = Callable[[dict[str, Any]], object]
REPORT = Report(
    Verdict.PASS,
    8.0,
    tuple(OutputCheck(name, 2.5, 8.0, Floor(1e-7, 1e-7, 8), "noise", Statistic.L2, 1.0, "") for name in ("boxes", "y")),
    tuple(BlockCheck(name, 0.99, 0.98, 1.0, AttentionState.KEPT, 9.0, "") for name in ("a.1", "a.2")),
    0.99,
    (),
)
ENGINE = EngineFacts("ONNX Runtime", "1.31.1", precision="int8")
MODULES = tuple(
    ReplayedModule(name, "conv2d", ratio, 1e-7, 0.0, 1, wrong=False) for name, ratio in (("a", 0.3), ("b", 0.7))
)
REPLAY = Replay(1, 8.0, 0.1, 0.9, 0.0, outputs=True, modules=MODULES)
AGREEMENT = Agreement(
    48,
    AgreementBudget(),
    (OutputAgreement("y", 0.08, Agreed(47, 48, 0.89, 1.0), Agreed(40, 40, 0.91, 1.0), Verdict.PASS),),
)
EVIDENCE = Evidence(EvidenceLevel.EXECUTED, Verdict.PASS, (), REPORT, None, ENGINE, agreement=AGREEMENT)
FACTS = ArtifactFacts(
    operators={"Conv": 20, "Add": 4},
    quantized=Quantized(2, 20, 18),
    tensorrt=TensorRTFacts(dla=DlaFacts(1, 20, (), ())),
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle, a result of bench, an answer of verify and a count, all of the same kind of network."""
    made = tmp_path_factory.mktemp("builds")
    manifest = make_bundle(made / "bundle", targets=("onnx", "tflite")).manifest
    first, second = (dataclasses.replace(one, facts=FACTS, evidence=EVIDENCE) for one in manifest.artifacts)
    records = [
        dataclasses.replace(first, evidence=dataclasses.replace(EVIDENCE, replay=REPLAY)),
        dataclasses.replace(second, precision="int8", effective_precision="int8"),
    ]
    card = dataclasses.replace(manifest.model, blocks=tuple(Block(name, 8, 2, 4, 4) for name in ("a.1", "a.2")))
    whole = dataclasses.replace(manifest, artifacts=tuple(records), model=card)
    (made / "bundle" / "manifest.json").write_text(whole.to_json())
    more = {"engine": ENGINE, "parity": Parity(Verdict.PASS, 2.5, 0.99, REPORT)}
    ones = [measured(noisy(12, number), target=target, **more) for number, target in enumerate(("onnx", "tflite"))]
    timed = dataclasses.replace(result(*ones), probes="p" * 64)
    (made / "result.json").write_text(timed.to_json())
    accuracy = Accuracy(1000, Share(0.91, 0.89, 0.93), Share(0.99, 0.98, 1.0), "PyTorch")
    checked = tuple(Verified(target, "int8", EVIDENCE, None, accuracy) for target in ("onnx", "tflite"))
    (made / "verify.json").write_text(
        codec.dumps(codec.encode(VerifyDocument(checked, (), None, 0, "p" * 64), "verify"))
    )
    phase = Phase(5_000_000, {})
    counts = Counts("Cortex-A72", 1, phase, phase, phase, (5_000_000,), (), ENGINE)
    counted = CountDocument("rpi4", "", tuple(CountedArtifact(t, "int8", counts, None) for t in ("onnx", "tflite")), 0)
    (made / "count.json").write_text(codec.dumps(codec.encode(counted, "count")))
    return made


def compare(folder: Path, name: str, edit: Edit, tmp_path: Path) -> int:
    """The exit code of the edited copy of ``name`` against ``name`` itself."""
    source = folder / name
    if source.is_dir():
        changed = tmp_path / name
        shutil.copytree(source, changed)
        return _run(source, source / "manifest.json", changed / "manifest.json", changed, edit)
    return _run(source, source, tmp_path / name, tmp_path / name, edit)


def _run(source: Path, read: Path, written: Path, current: Path, edit: Edit) -> int:
    document = json.loads(read.read_text())
    before = copy.deepcopy(document)
    edit(document)
    assert document != before or edit is NOTHING, "the edit changed nothing"
    written.write_text(json.dumps(document))
    return main(["compare", str(source), str(current)])


def put(path: str, value: object) -> Edit:
    """Set the value at a path of keys and indices; a function of the old value is called with it."""

    def edit(document: Any) -> None:
        *to, last = [int(word) if word.isdigit() else word for word in path.split("/")]
        for word in to:
            document = document[word]
        document[last] = value(document[last]) if callable(value) else value

    return edit


def pop(path: str) -> Edit:
    """Remove an item of a list."""

    def edit(document: Any) -> None:
        *to, last = path.split("/")
        for word in to:
            document = document[int(word) if word.isdigit() else word]
        document.pop(int(last))

    return edit


def tenfold(value: float) -> float:
    return value * 10


def NOTHING(_: object) -> None:  # noqa: N802
    """The equal file."""


LOST = {"retention": 0.85, "low": 0.84, "high": 0.86}
ONE, PARITY = "measured/1", "measured/1/parity"
EVIDENT, CHECKED = "artifacts/1/evidence", "artifacts/1/evidence/parity"
REPLAYED = "artifacts/0/evidence/replay"


def processes(key: str) -> Edit:
    """Ten times as long in every process."""

    def edit(document: Any) -> None:
        for one in (document["measured"][1], *document["measured"][1]["processes"]):
            one[key] *= 10

    return edit


def slower(document: Any) -> None:
    """Every sample takes a fifth longer."""
    longer = measured(noisy(12, 1, 1.2)).processes
    for process, other in zip(document["measured"][1]["processes"], longer):
        process["samples"] = other.samples


def delayed(document: Any) -> None:
    """A fifth of the samples takes five times as long."""
    times = noisy(12, 1)
    for each in times:
        each[:8] *= 5
    for process, other in zip(document["measured"][1]["processes"], measured(times).processes):
        process["samples"] = other.samples


CASES: tuple[tuple[str, str, Edit, int], ...] = (
    ("result.json", "nothing", NOTHING, 0),
    ("result.json", "an artifact", pop("measured/1"), 1),
    ("result.json", "time", slower, 1),
    ("result.json", "some calls", delayed, 1),
    ("result.json", "size", put(f"{ONE}/size", tenfold), 1),
    ("result.json", "size a little", put(f"{ONE}/size", lambda size: round(size * 1.01)), 0),
    ("result.json", "memory", put(f"{ONE}/peak_rss", tenfold), 1),
    ("result.json", "memory is gone", put(f"{ONE}/peak_rss", None), 1),
    ("result.json", "load time", processes("load_ms"), 1),
    ("result.json", "first run", processes("first_ms"), 1),
    ("result.json", "load time of some processes", put(f"{ONE}/load_ms", tenfold), 5),
    ("result.json", "energy", put(f"{ONE}/energy/joules_per_inference", tenfold), 1),
    ("result.json", "energy is gone", put(f"{ONE}/energy", None), 1),
    ("result.json", "error", put(f"{PARITY}/error", 7.9), 1),
    ("result.json", "error is far off", put(f"{PARITY}/error", None), 1),
    ("result.json", "error of an output", put(f"{PARITY}/report/outputs/1/error", 7.9), 1),
    ("result.json", "failed", put(f"{PARITY}/verdict", "fail"), 1),
    ("result.json", "inconclusive", put(f"{PARITY}/verdict", "inconclusive"), 5),
    ("result.json", "the check is gone", put(f"{ONE}/parity", None), 1),
    ("result.json", "retention", put(f"{PARITY}/retention", 0.85), 1),
    ("result.json", "retention of a block", put(f"{PARITY}/report/blocks/0", lambda b: b | LOST), 1),
    ("result.json", "a doubt about retention", put(f"{PARITY}/report/blocks/0/retention", 0.9), 5),
    ("result.json", "a block is gone", pop(f"{PARITY}/report/blocks/1"), 1),
    ("result.json", "an output is gone", pop(f"{PARITY}/report/outputs/0"), 1),
    ("result.json", "agreement", put(f"{PARITY}/report/outputs/0/top1", 0.5), 1),
    ("result.json", "agreement is gone", put(f"{PARITY}/report/outputs/0/top1", None), 1),
    ("result.json", "effective precision", put(f"{ONE}/engine/precision", "fp32"), 5),
    ("result.json", "effective precision is gone", put(f"{ONE}/engine/precision", ""), 1),
    ("result.json", "GPU", put(f"{ONE}/engine/gpu", "another"), 5),
    ("result.json", "board", put("machine/board", "another"), 5),
    ("result.json", "memory of the machine", put("machine/memory", 1 << 30), 5),
    ("result.json", "threads", put("settings/threads", 4), 5),
    ("result.json", "batch", put(f"{ONE}/batch", 4), 5),
    ("result.json", "probes", put("probes", "q" * 64), 5),
    ("result.json", "inputs", put("settings/inputs", "mine.npz"), 5),
    ("bundle", "nothing", NOTHING, 0),
    ("bundle", "verdict and error", put(EVIDENT, lambda e: e | {"verdict": "fail"}), 1),
    ("bundle", "error", put(f"{CHECKED}/outputs/0/error", 7.9), 1),
    ("bundle", "evidence level", put(f"{EVIDENT}/level", "compiled"), 1),
    ("bundle", "evidence", put(CHECKED, None), 1),
    ("bundle", "retention", put(f"{CHECKED}/blocks/1", lambda b: b | LOST), 1),
    ("bundle", "a doubt about retention", put(f"{CHECKED}/blocks/1", lambda b: b | {"retention": 0.9}), 5),
    ("bundle", "operators", put("artifacts/1/facts/operators/Add", 40), 1),
    ("bundle", "operators left in float", put("artifacts/1/facts/quantized/kept_operators", 3), 1),
    ("bundle", "products left in float", put("artifacts/1/facts/quantized/quantized_products", 17), 1),
    ("bundle", "quantization is gone", put("artifacts/1/facts/quantized", None), 1),
    (
        "bundle",
        "DLA",
        put("artifacts/1/facts/tensorrt/dla/fallbacks", [{"rule": "", "node": "", "message": ""}]),
        1,
    ),
    ("bundle", "a fused block", pop("model/blocks/0"), 1),
    ("bundle", "a module", put(f"{REPLAYED}/modules/0/ratio", 7.9), 1),
    ("bundle", "no module is seen", put(f"{REPLAYED}/modules", []), 1),
    ("bundle", "fewer modules are seen", put(f"{REPLAYED}/together", 0.5), 1),
    ("bundle", "replay is gone", put(REPLAYED, None), 1),
    ("bundle", "replay of other batches", put(f"{REPLAYED}/batches", 4), 5),
    ("bundle", "effective precision", put("artifacts/1/effective_precision", "fp32"), 5),
    ("bundle", "an input has another name", put("artifacts/1/inputs/0/name", "z"), 1),
    ("bundle", "agreement on held-out inputs", put(f"{EVIDENT}/agreement/outputs/0/sure/same", 36), 1),
    ("bundle", "agreement on one held-out input", put(f"{EVIDENT}/agreement/outputs/0/sure/same", 39), 0),
    ("bundle", "error over variation", put(f"{EVIDENT}/agreement/outputs/0/deviation", 0.2), 1),
    ("bundle", "agreement is gone", put(f"{EVIDENT}/agreement", None), 1),
    ("verify.json", "nothing", NOTHING, 0),
    ("verify.json", "an artifact did not run", put("artifacts/1/error", "no engine"), 1),
    ("verify.json", "an artifact", pop("artifacts/1"), 1),
    ("verify.json", "failed", put(f"{EVIDENT}/verdict", "fail"), 1),
    ("verify.json", "inconclusive", put(f"{EVIDENT}/verdict", "inconclusive"), 5),
    ("verify.json", "error", put(f"{CHECKED}/outputs/0/error", 7.9), 1),
    ("verify.json", "retention", put(f"{CHECKED}/blocks/1", lambda b: b | LOST), 1),
    ("verify.json", "evidence level", put(f"{EVIDENT}/level", "compiled"), 1),
    ("verify.json", "accuracy", put("artifacts/1/accuracy/top1/value", 0.88), 1),
    ("verify.json", "accuracy of five guesses", put("artifacts/1/accuracy/top5/value", 0.95), 1),
    ("verify.json", "accuracy is gone", put("artifacts/1/accuracy", None), 1),
    ("verify.json", "other samples", put("artifacts/1/accuracy/count", 500), 5),
    ("verify.json", "another partner", put("artifacts/1/accuracy/partner", "onnx fp32"), 5),
    ("verify.json", "probes", put("probes", ""), 5),
    ("verify.json", "emulated", put(f"{EVIDENT}/engine/emulated", "cortex-a72"), 5),
    ("verify.json", "agreement on held-out inputs", put(f"{EVIDENT}/agreement/outputs/0/sure/same", 36), 1),
    ("count.json", "nothing", NOTHING, 0),
    ("count.json", "instructions", put("artifacts/1/counts/inference/instructions", 5_100_000), 1),
    ("count.json", "instructions of loading", put("artifacts/1/counts/load/instructions", tenfold), 1),
    ("count.json", "an artifact", pop("artifacts/1"), 1),
    ("count.json", "not counted", put("artifacts/1/counts", None), 1),
    ("count.json", "another core", put("artifacts/1/counts/core", "Cortex-A53"), 5),
)


@pytest.mark.parametrize(("name", "what", "edit", "code"), CASES)
def test_an_edited_copy(name: str, what: str, edit: Edit, code: int, folder: Path, tmp_path: Path) -> None:
    assert compare(folder, name, edit, tmp_path) == code


def table() -> str:
    """Every case above by file and exit code, as ``docs/gate.md`` has it."""
    kinds = {
        "result.json": "`bench -o`",
        "bundle": "a bundle",
        "verify.json": "`verify --json`",
        "count.json": "`--count`",
    }
    rows = ["| file | edited, one at a time | exit |", "|---|---|---|"]
    for name, kind in kinds.items():
        for code in (0, 1, 5):
            edits = [what for case, what, _, found in CASES if (case, found) == (name, code)]
            rows.append(f"| {kind} | {'; '.join(edits)} | {code} |")
    return "\n".join(rows)


def test_the_documented_table_is_that_of_these_cases() -> None:
    page = (Path(__file__).parents[3] / "docs" / "gate.md").read_text()
    assert table() in page
    worse = [case for case in CASES if case[2] is not NOTHING and case[3] != 0]
    assert len(worse) == len({case[:2] for case in worse}) >= 20
    assert f"{len(worse)} kinds" in page


def test_two_kinds_of_file_have_nothing_to_compare(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", str(folder / "verify.json"), str(folder / "count.json")]) == 2
    assert "the answer of verify" in capsys.readouterr().err


def test_a_baseline_in_which_nothing_ran_is_none(folder: Path, tmp_path: Path, capsys: Any) -> None:
    document = json.loads((folder / "verify.json").read_text()) | {"artifacts": []}
    (tmp_path / "none.json").write_text(json.dumps(document))
    assert main(["compare", str(tmp_path / "none.json"), str(folder / "verify.json")]) == 2
    assert "has no artifact that was run" in capsys.readouterr().err


def test_an_error_in_place_of_an_answer_is_named(folder: Path, tmp_path: Path, capsys: Any) -> None:
    (tmp_path / "e.json").write_text('{"schema": "ulsam-deploy.error/2"}')
    assert main(["compare", str(folder / "verify.json"), str(tmp_path / "e.json")]) == 2
    assert "it is 'error'" in capsys.readouterr().err


def test_what_is_gone_is_named_with_its_reason(folder: Path, tmp_path: Path, capsys: Any) -> None:
    def edit(document: Any) -> None:
        document["measured"].pop()
        document["left_out"]["tflite fp32"] = "LiteRT is not installed"

    assert compare(folder, "result.json", edit, tmp_path) == 1
    assert "tflite fp32: the baseline has it, and it is gone. LiteRT is not installed" in capsys.readouterr().out


def test_a_module_is_named(folder: Path, tmp_path: Path, capsys: Any) -> None:
    assert compare(folder, "bundle", put(f"{REPLAYED}/modules/0/ratio", 7.9), tmp_path) == 1
    said = "onnx fp32: error of a module by itself is 7.9 roundings in a, 0.7 roundings in b in the baseline"
    assert said in capsys.readouterr().out
