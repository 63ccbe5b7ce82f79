"""The list of checks, and what JUnit, Markdown and GitHub make of it: whole, legal, within limits, readable alone."""

from __future__ import annotations

import io
import re
from dataclasses import replace
from urllib.parse import unquote

import junitparser
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ulsam_deploy.device.checks import Check, artifact_checks, worst
from ulsam_deploy.device.commands import annotations as github
from ulsam_deploy.device.commands.junit import junit
from ulsam_deploy.device.commands.markdown import markdown
from ulsam_deploy.device.findings import Reason, ReasonKind, Verdict
from ulsam_deploy.device.printing import shown, shown_lines
from ulsam_deploy.device.types import EvidenceLevel

from .conftest import FAULT, records

OTHER = Reason("stage", ReasonKind.PLACE_FAULT, "Something else is wrong.")
CHECKS = st.lists(st.builds(Check, st.text(), st.text(), st.sampled_from(Verdict), st.text()), max_size=30)


def of(number: int, **changes: object) -> tuple[Check, ...]:
    record = records()[number]
    return artifact_checks(f"{record.target} fp32", replace(record.evidence, **changes), "ulsam-deploy verify x.bundle")


def test_an_artifact_has_a_check_for_each_output_and_block() -> None:
    assert [(check.name, check.verdict) for check in of(0)] == [
        ("evidence", Verdict.PASS),
        ("output logits", Verdict.PASS),
        ("attention of stage.1", Verdict.PASS),
        ("attention of stage.2", Verdict.PASS),
    ]


def test_a_fault_is_found_where_it_is_and_its_text_stands_alone() -> None:
    found = {check.name: check for check in of(1)}
    assert found["attention of stage.2"].verdict is Verdict.FAIL
    assert found["attention of stage.1"].verdict is Verdict.PASS
    text = found["attention of stage.2"].text
    for words in ("tflite fp32", "Engine 1.2", FAULT, "ulsam-deploy verify x.bundle"):
        assert words in text


def test_what_nobody_ran_is_no_pass() -> None:
    assert [check.verdict for check in of(2)] == [Verdict.PASS, Verdict.UNVERIFIED]
    assert "no driver" in of(2)[1].text
    assert worst(of(2)) is Verdict.PASS
    assert worst(of(2)[1:]) is Verdict.UNVERIFIED


def test_a_level_that_was_not_reached_fails() -> None:
    record = records()[2]
    (level, *_) = artifact_checks("trt fp32", record.evidence, "again", required=EvidenceLevel.EXECUTED)
    assert level.verdict is Verdict.FAIL
    assert "'executed' was required" in level.text


def test_a_failure_without_a_sentence_is_still_a_failure() -> None:
    assert worst(of(1, reasons=())) is Verdict.FAIL


def test_a_sentence_about_nothing_known_is_kept() -> None:
    found = {check.name: check for check in of(1, reasons=(*records()[1].evidence.reasons, OTHER))}
    assert "Something else is wrong." in found["other findings"].text


@pytest.mark.parametrize(
    ("kind", "subject", "check"),
    [
        (ReasonKind.OUTPUT_DOUBT, "logits", "output logits"),
        (ReasonKind.ATTENTION_DOUBT, "stage.1", "attention of stage.1"),
        (ReasonKind.ATTENTION_DOUBT, "logits", "other findings"),
    ],
)
def test_a_doubt_stands_under_what_it_is_about_whatever_its_sentence_says(
    kind: ReasonKind, subject: str, check: str
) -> None:
    """By the fields: a sentence may begin as it likes ("The reference output ..."), and may name another block."""
    reason = Reason(subject, kind, "The reference output 'logits' hardly differs; block 'stage.2' neither.")
    found = of(0, reasons=(reason,), verdict=Verdict.INCONCLUSIVE)
    assert [one.name for one in found if one.verdict is not Verdict.PASS] == [check]
    (told,) = (one for one in found if one.name == check)
    assert told.verdict is Verdict.INCONCLUSIVE
    assert reason.text in told.text


def test_a_note_changes_no_verdict_and_is_told_with_what_failed() -> None:
    note = Reason("stage.2", ReasonKind.ATTENTION_NOTE, "Note: read inside, it is alive.")
    found = {check.name: check for check in of(1, reasons=(*records()[1].evidence.reasons, note))}
    assert note.text in found["attention of stage.2"].text
    assert all(check.verdict is Verdict.PASS for check in of(0, reasons=(note,)))


# --- JUnit, read back by a public parser ---


def test_junit_is_what_a_public_reader_reads() -> None:
    checks = [check for number in range(3) for check in of(number)]
    suites = junitparser.JUnitXml.fromstring(junit("x.bundle", checks))
    (suite,) = list(suites)
    assert (suite.name, suite.tests, suite.failures, suite.errors, suite.skipped) == ("x.bundle", 10, 1, 0, 1)
    cases = {(case.classname, case.name): case for case in suite}
    assert len(cases) == 10
    (failure,) = cases["x.bundle.tflite fp32", "attention of stage.2"].result
    assert isinstance(failure, junitparser.Failure)
    assert FAULT in failure.message
    assert "To see it again: ulsam-deploy verify x.bundle" in failure.text
    (skipped,) = cases["x.bundle.trt fp32", "parity"].result
    assert isinstance(skipped, junitparser.Skipped)


@given(suite=st.text(), checks=CHECKS)
def test_junit_is_legal_whatever_the_texts_are(suite: str, checks: list[Check]) -> None:
    written = junit(suite, checks)
    etree = junitparser.junitparser.etree  # type: ignore[attr-defined]  # lxml's or the standard library's
    read = junitparser.JUnitXml.fromroot(etree.parse(io.BytesIO(written)).getroot())
    (found,) = list(read)
    assert found.tests == len(checks) == len(list(found))
    kinds = [type(case.result[0]).__name__ if case.result else "pass" for case in found]
    words = {
        Verdict.PASS: "pass",
        Verdict.FAIL: "Failure",
        Verdict.INCONCLUSIVE: "Error",
        Verdict.UNVERIFIED: "Skipped",
    }
    assert kinds == [words[check.verdict] for check in checks]


# --- the job summary ---


def test_markdown_shows_every_failure_and_no_markup_of_its_own() -> None:
    rows = [("a|b", "<img src=x>", "@everyone [x](https://evil) `tick` *star* ![i](u)")]
    text = markdown("x <b>", "One sentence.", ("one", "two", "three"), rows, of(1))
    assert FAULT in text
    assert "3 of 4 checks passed." in text
    (row,) = [line for line in text.splitlines() if line.startswith("| a")]
    assert re.findall(r"(?<!\\)\|", row) == ["|"] * 4, "a cell's bar ends no cell"
    assert not re.search(r"<img|<b>|(?<!\\)[`*!\[]|@|https://", row)


@given(text=st.text())
def test_a_text_of_fences_stays_inside_its_fence(text: str) -> None:
    held = "`" * 5 + text + "\n```\n" + text
    shown = markdown("t", "s", ("a",), [], [Check("x", "y", Verdict.FAIL, held)])
    fence = re.search(r"^(`{3,})text\n", shown, re.MULTILINE)[1]
    assert fence not in held.replace(f"{fence}`", "")
    assert shown.count(f"\n{fence}\n") >= 1


def test_markdown_is_below_github_s_limit_and_says_what_it_leaves_out() -> None:
    many = [Check(f"artifact {i}", "output", Verdict.FAIL, "é" * 4000) for i in range(400)]
    text = markdown("t", "s", ("a",), [["b"]], many)
    assert (1 << 20) - 10_000 < len(text.encode()) < 1 << 20
    assert "left out" in text
    assert text.count("```") % 2 == 0


# --- annotations ---


@given(title=st.text(max_size=150), message=st.text(max_size=300))
@example(title="50%3A, done: %0A", message="50%25 of\r\n%0A%3A")
def test_annotations_are_one_line_each_and_read_back_whole(title: str, message: str) -> None:
    (line,) = github.lines([Check(title, "n", Verdict.FAIL, message)])
    assert "\n" not in line
    assert "\r" not in line
    head, told = line.removeprefix("::error title=").split("::", 1)
    assert not set(head) & set(":,")
    assert unquote(head) == shown(f"{title}: n")
    assert told.replace("%0A", "\n").replace("%25", "%") == shown_lines(message)


def test_annotations_beyond_the_limit_are_named_in_the_last_one() -> None:
    failed = [Check(f"a{i}", "n", Verdict.FAIL, "no") for i in range(12)]
    doubtful = [Check("b", "n", Verdict.INCONCLUSIVE, "maybe")]
    lines = github.lines([*failed, *doubtful, Check("c", "n", Verdict.PASS)])
    assert [line.split(" ")[0] for line in lines] == ["::error"] * 10 + ["::warning"]
    assert "a11 n" in lines[9]
    assert "a8 n" not in lines[9]


@pytest.mark.parametrize(("value", "wanted"), [("true", True), ("false", False), ("", False)])
def test_annotations_are_for_github_only(monkeypatch: pytest.MonkeyPatch, value: str, wanted: bool) -> None:
    monkeypatch.setenv("GITHUB_ACTIONS", value)
    assert github.wanted() is wanted
