"""The page: everything a bundle says stands on it, whatever its names are, in one file that refers to nothing else."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import pytest

from ulsam_deploy.device.bundle import Manifest, RunFacts
from ulsam_deploy.device.findings import Report, Verdict
from ulsam_deploy.report import page
from ulsam_deploy.report.subject import BundlePart
from ulsam_deploy.report.timed import TimedPart

from .conftest import FAULT, artifact, golden, manifest, maps, records
from .reading import Page
from .results import result

HOSTILE = "</script><img src=x onerror=alert(1)>&{{7*7}}'\""


def test_it_says_everything(subject: BundlePart) -> None:
    read = Page(page.page("digits", [subject]))
    said = read.text
    assert "onnx fp32 computes what the PyTorch model computes" in said
    assert "tflite fp32 does not compute what the PyTorch model computes" in said
    assert "openvino was left out" in said
    for words in (
        "0.50 of 8 noise floors", "91.00 of 8 noise floors", "1.50 MB", "2.000 ms (p50, batch 1)", "0.01 lost",
        "Use a wider map.", "Softmax runs on the GPU.", "it pools the input", "Engine 1.2", "b" * 64, "n/a",
        "trt fp32 was not executed here", "No maps of trt fp32: it was not executed here.", "left out: not installed",
        FAULT,
    ):  # fmt: skip
        assert words in said, words
    assert [attributes["id"] for attributes in read.all("section")] == [
        "artifacts", "failures", "attention", "time", "graph", "lints", "environment"
    ]  # fmt: skip


def test_a_failure_says_how_to_see_it_again(subject: BundlePart) -> None:
    said = Page(page.page("digits", [subject])).text
    assert "ulsam-deploy verify digits.bundle --target tflite" in said
    assert "--against MODEL digits.bundle/tflite/model.tflite --precision fp32 --reproduce case" in said
    assert "verify digits.bundle --target onnx" not in said, "what passed needs no repeating"


def test_every_link_within_the_page_leads_somewhere_and_none_leads_out(subject: BundlePart) -> None:
    read = Page(page.page("two", [subject, replace(subject, name="other")], {"columns": (), "rows": (), "plots": (),
                                                                             "notes": ()}))  # fmt: skip
    identifiers = read.attribute("id")
    assert sorted(identifiers) == sorted(set(identifiers)), "an identifier is there twice"
    targets = [*read.attribute("href"), *read.attribute("xlink:href"), *read.attribute("src")]
    labels = [name for value in read.attribute("aria-labelledby") for name in value.split()]
    assert targets
    assert [name for name in targets if name != "data:," and name.removeprefix("#") not in identifiers] == []
    assert [name for name in labels if name not in identifiers] == []
    assert re.findall(r"url\((?!#)", str(read.elements)) == []
    assert not {"img", "iframe", "object", "embed", "base", "form"} & {tag for tag, _ in read.elements}


def test_whatever_things_are_called_nothing_of_it_is_markup(subject: BundlePart) -> None:
    plain = Page(page.page("digits", [subject]))
    evil = {"x": HOSTILE, HOSTILE: HOSTILE}
    first, *others = records()
    made = replace(first, toolchain=evil, facts=replace(first.facts, suggestions=(HOSTILE,), operators={HOSTILE: 1}))
    card = replace(manifest().model, name=HOSTILE, network=HOSTILE, refusals=())
    shown = maps()
    named = replace(
        shown,
        probes=("natural-0", "natural-1"),
        shapes={HOSTILE: shown.shapes["stage.1"]},
        reference={HOSTILE: shown.reference["stage.1"]},
        engines={HOSTILE: {HOSTILE: shown.engines["onnx fp32"]["stage.1"]}},
        missing={HOSTILE: HOSTILE},
    )
    run = RunFacts(left_out=evil, machine=HOSTILE)
    hostile = BundlePart(HOSTILE, manifest(artifacts=(made, *others), model=card, run=run), named, golden())
    read = Page(page.page(HOSTILE, [hostile]))
    assert len(read.all("script")) == len(plain.all("script"))
    assert read.all("img") == []
    assert HOSTILE in read.text
    assert "49" not in re.findall(r"\d+", read.text), "a name was run as a template"


def test_control_characters_are_shown_and_not_obeyed(subject: BundlePart) -> None:
    odd = "a\x1b]0;own\x07\x85b\u202etxt.exe\u2028c"
    first, *others = records()
    made = replace(first, toolchain={odd: odd}, facts=replace(first.facts, suggestions=(odd,)))
    known = maps()
    named = replace(known, shapes={odd: known.shapes["stage.1"]}, reference={odd: known.reference["stage.1"]})
    card = replace(manifest().model, name=odd, network=odd)
    text = page.page(odd, [BundlePart(odd, manifest(artifacts=(made, *others), model=card), named, golden())])
    data = re.search(r'<script type="application/json">(.*?)</script>', text, re.DOTALL)[1]
    for told in (text, *json.loads(data)["blocks"]):
        assert not set("\x1b\x07\x85\u202e\u2028") & set(told)
        assert r"a\x1b]0;own\x07\x85b\u202etxt.exe\u2028c" in told
    assert "\\u" not in page.page("digits", [subject]), "what is ours has no such characters"


def test_the_viewer_is_given_what_json_reads_back(subject: BundlePart) -> None:
    text = page.page("digits", [subject])
    data = json.loads(re.search(r'<script type="application/json">(.*?)</script>', text, re.DOTALL)[1])
    assert data["blocks"] == ["stage.1", "stage.2"]
    assert [engine["label"] for engine in data["engines"]] == ["onnx fp32", "tflite fp32"]
    assert data["engines"][1]["maps"][1] is None


def test_the_same_bundle_gives_the_same_bytes(subject: BundlePart) -> None:
    again = BundlePart("digits", Manifest.from_json(manifest().to_json()), maps(), golden())
    assert page.page("digits", [subject]) == page.page("digits", [again])


def test_a_page_that_is_too_large_leaves_out_later_maps_first(
    subject: BundlePart, monkeypatch: pytest.MonkeyPatch
) -> None:
    both = [subject, replace(subject, name="other")]
    held = {"columns": (), "rows": (), "plots": (), "notes": ()}
    whole = page.page("two", both, held)
    assert whole.count("data-viewer") - page.page("two", both[:1]).count("data-viewer") == 1
    monkeypatch.setattr(page, "LIMIT", len(whole.encode()))
    smaller = page.page("two", both, held)
    assert len(smaller.encode()) < page.LIMIT
    assert 'name="s0-probe"' in smaller
    assert 'name="s1-probe"' not in smaller


@pytest.mark.parametrize(
    ("kept", "verdict"),
    [((0,), Verdict.PASS), ((0, 1), Verdict.FAIL), ((2,), Verdict.UNVERIFIED), ((0, 2), Verdict.PASS)],
)
def test_the_verdict_is_the_worst_of_what_was_run(kept: tuple[int, ...], verdict: Verdict) -> None:
    chosen = tuple(records()[i] for i in kept)
    subject = BundlePart("digits", manifest(artifacts=chosen))
    assert subject.verdict is verdict
    assert f'class="verdict {verdict.value}"' in page.page("digits", [subject])


@pytest.mark.parametrize(("cards", "columns"), [(0, 1), (1, 1), (2, 2), (3, 3), (4, 2), (5, 3), (6, 3), (7, 3), (8, 3)])
def test_rows_of_cards_are_even(cards: int, columns: int) -> None:
    assert page._columns(cards) == columns


def test_a_network_without_attention_has_no_viewer_and_no_graph() -> None:
    card = replace(manifest().model, blocks=(), refusals=())
    only = artifact("onnx", replace(records()[0].evidence, parity=Report(Verdict.PASS, 8.0, (), (), None, ())))
    plain = replace(maps(), shapes={}, reference={}, naive=(), engines={}, missing={})
    read = Page(
        page.page(
            "plain", [BundlePart("plain", manifest(model=card, artifacts=(only,), run=RunFacts()), plain, golden())]
        )
    )
    assert [attributes["id"] for attributes in read.all("section")] == ["artifacts", "time", "environment"]


def test_a_result_file_has_a_page_too() -> None:
    read = Page(page.page("run", [TimedPart("run", result())]))
    for words in ("onnx fp32 is the fastest on Kitchen Pi", "nothing disturbed the run", "1.500 times as long"):
        assert words in read.text, words
    assert [attributes["id"] for attributes in read.all("section")] == ["artifacts", "time", "lints", "environment"]
