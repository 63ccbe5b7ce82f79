"""What a board says is typed, bounded, and never believed to be better than its own document."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from ulsam_deploy.boards.remote import Finished, Order, link, run_job
from ulsam_deploy.cli import hosts
from ulsam_deploy.cli.verify_hosts import hold_to_its_words
from ulsam_deploy.device.bundle import Evidence
from ulsam_deploy.device.commands.documents import Verified, VerifyDocument
from ulsam_deploy.device.errors import Exit, RefusedError, UnavailableError, UsageError
from ulsam_deploy.device.findings import Verdict
from ulsam_deploy.device.types import EvidenceLevel


def said(verdict: Verdict | None, code: int) -> VerifyDocument:
    evidence = Evidence(EvidenceLevel.EXECUTED, verdict) if verdict else None
    return VerifyDocument((Verified("onnx", "fp32", evidence, None, None),), (), None, code)


@pytest.mark.parametrize(
    ("document", "wanted", "code"),
    [
        (said(Verdict.PASS, 0), {("onnx", "fp32")}, Exit.OK),
        (said(Verdict.FAIL, 0), {("onnx", "fp32")}, Exit.CHECK_FAILED),
        (said(Verdict.PASS, 1), {("onnx", "fp32")}, Exit.CHECK_FAILED),
        (said(Verdict.PASS, 0), {("onnx", "fp32"), ("tflite", "fp32")}, Exit.UNAVAILABLE),
        (said(None, 0), {("onnx", "fp32")}, Exit.UNAVAILABLE),
        (VerifyDocument((), (), None, 0), {("onnx", "fp32")}, Exit.UNAVAILABLE),
    ],
)
def test_a_board_is_held_to_its_words(document: VerifyDocument, wanted: set[tuple[str, str]], code: Exit) -> None:
    reply = hosts.HostReply("kitchen", Finished(0, "", "", {}, "3.11", "aarch64"), None, Exit.OK)
    hold_to_its_words(reply, document, wanted)
    assert reply.code is code


def test_an_answer_without_an_end_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link, "LONGEST", 1000)
    heard = list[object]()
    hearer = link._Hearer(io.BytesIO(b"x" * 5000), "kitchen", heard.append)
    hearer.join(5)
    assert isinstance(hearer.problem, UnavailableError)
    assert not heard


@pytest.mark.parametrize("key", ["exit", "files", "out", "state"])
@pytest.mark.parametrize("value", [None, "x", [], {"a": {}}, 1.5, "missing"])
def test_the_last_answer_of_a_board_is_typed(
    key: str, value: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer: dict[str, object] = {"state": "done", "exit": 0, "out": "", "files": {}}
    answer[key] = value
    if value == "missing":
        del answer[key]
    if (key, value) in (("out", None), ("out", "x"), ("out", "missing")) and value != "missing":
        return  # these are right
    monkeypatch.setattr(link.Link, "talk", lambda _self, _order, _files, hear, _seconds: hear(answer))
    with pytest.raises((RefusedError, UnavailableError), match="kitchen"):
        run_job(link.Link("kitchen"), Order(tmp_path, ()), lambda _: None)


def test_a_host_has_a_name_of_bounded_length() -> None:
    assert link.check_host("h" * 255)
    with pytest.raises(UsageError) as caught:
        link.check_host("h" * 5000)
    assert len(str(caught.value)) < 500
