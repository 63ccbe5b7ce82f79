"""A fast slice of the fault corpus (``benchmarks/faults.py``) with real engines: every fault found, no false alarm."""

import re
from collections.abc import Iterator
from dataclasses import replace
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

ROOT = Path(__file__).parents[4]
PARTS = ("subjects", "faults", "sound", "engines", "judging", "rules", "table")

#: Kinds that differ in how they are seen: by retention, by the map's shape, by the tolerance, by the batch, by drift.
ATTENTION = ("removed", "subspace", "uniform", "steps", "half gain", "batch softmax", "transposed", "order",
             "no score relu", "no pool", "no residual", "temperature")  # fmt: skip
OTHERS = (
    "one weight of the classifier off by 1 %", "score weights of one subspace off by 1 %", "stale checkpoint",
    "batch norm eps 1e-3 in one layer", "ReLU6 as ReLU", "residual missing", "float16 overflow in one layer",
    "NHWC fed as NCHW", "batch baked in: the first image's result for all",
)  # fmt: skip


@pytest.fixture(scope="module")
def corpus() -> Iterator[SimpleNamespace]:
    for package in ("torch", "onnx", "onnxruntime", "openvino", "onnxsim"):
        if find_spec(package) is None:  # importing openvino here would start its telemetry
            pytest.skip(f"{package} is not installed")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "benchmarks"))
        yield SimpleNamespace(**{part: import_module(f"fault_corpus.{part}") for part in PARTS})


@pytest.fixture(scope="module")
def judge(corpus: SimpleNamespace):
    return corpus.judging.Judge(corpus.subjects.small())


@pytest.fixture(scope="module")
def found(corpus: SimpleNamespace, judge: Any, tmp_path_factory: pytest.TempPathFactory):
    """Every fault of the slice, judged."""
    folder, subject = tmp_path_factory.mktemp("faulty"), judge.subject
    faults = [*corpus.faults.attention_faults(subject, ATTENTION)]
    faults += [fault for fault in corpus.faults.other_faults(subject) if fault.name in OTHERS]
    judged = []
    for fault in faults:
        path = corpus.engines.naive_onnx(subject, fault.model, folder / "faulty.onnx")
        judged.append(
            judge.artifact(
                fault.name, "onnx",
                lambda path=path: corpus.engines.run(path, corpus.engines.Ports.of(subject), subject.golden),
                faulty=True, place=fault.place, path=path if fault.attention else None,
            )
        )  # fmt: skip
    return judged


def test_every_fault_is_found(found: Any) -> None:
    assert len(found) == len(ATTENTION) + len(OTHERS)
    assert [one.name for one in found if not one.right()] == []


def test_every_fault_of_the_attention_is_named(corpus: SimpleNamespace, found: Any) -> None:
    assert [one.said for one in found if one.named is False] == []
    assert sum(one.named is True for one in found) == len(ATTENTION)
    right = f"the right one for {len(ATTENTION)}, another for 0, and none for 0"
    assert right in corpus.table.places(found)
    lost = [replace(one, named=False, said=("Where: 'stem' is the first",)) for one in found if one.named]
    assert f"another for {len(lost)}, and none for 0" in corpus.table.places(lost)
    assert f"another for 0, and none for {len(lost)}" in corpus.table.places([replace(one, said=()) for one in lost])


def test_other_rules_miss_what_this_check_finds(corpus: SimpleNamespace, found: Any) -> None:
    """The corpus is only worth something while it holds faults that plain rules let through."""
    missed = {rule: sum(rule in one.rules for one in found) for rule in corpus.rules.RULES}
    assert min(missed[rule] for rule in ("PSNR 30 dB", "top-1 agreement")) >= 3, missed


def test_no_sound_artifact_is_accused(corpus: SimpleNamespace, judge: Any, tmp_path: Path) -> None:
    sound = [one for one in corpus.sound.sound(judge.subject, tmp_path) if "2 threads" not in one.name]
    judged = [judge.artifact(one.name, one.target, one.outputs, faulty=False, half=one.half) for one in sound]
    assert [(one.name, one.verdict, one.said) for one in judged if not one.right()] == []
    assert {one.target for one in judged} == {"onnx", "openvino", "pytorch"}
    assert max(one.error for one in judged) < 4, "half of the tolerance is left"


def test_attention_lost_in_a_float16_artifact_is_found_and_named(
    corpus: SimpleNamespace, judge: Any, tmp_path: Path
) -> None:
    subject, block = judge.subject, judge.subject.blocks[1]
    fault = corpus.faults.attention_fault(subject, "removed", block)
    onnx = corpus.engines.naive_onnx(subject, fault.model, tmp_path / "faulty.onnx")
    path = corpus.engines.openvino_from_onnx(onnx, tmp_path / "faulty.xml", half=True)
    one = judge.artifact(
        fault.name, "openvino", lambda: corpus.engines.run(path, corpus.engines.Ports.of(subject), subject.golden),
        faulty=True, half=True, place=block,
    )  # fmt: skip
    assert (one.verdict, one.named) == ("fail", True), one.said
    assert any(f"'{block}' is lost" in reason for reason in one.said)


def test_the_page_carries_the_table_of_a_whole_run(corpus: SimpleNamespace) -> None:
    text = (ROOT / "docs" / "how-the-checks-work.md").read_text()
    table = text.partition(corpus.table.BEGIN)[2].partition(corpus.table.END)[0]
    counts = re.search(r"(\d+) faulty artifacts and (\d+) sound ones of (\d+) networks", table)
    assert counts, "run 'python benchmarks/faults.py --write'"
    assert [int(count) >= least for count, least in zip(counts.groups(), (40, 100, 4))] == [True] * 3
    alarms = re.search(r"this project's check\*\* \| \d+ \| \d+ \| (\d+)", table)
    assert alarms
    assert alarms[1] == "0"
    front = (ROOT / "README.md").read_text().partition(corpus.table.BEGIN)[2].partition(corpus.table.END)[0].strip()
    assert front
    assert front in table, "the README shows another run"
