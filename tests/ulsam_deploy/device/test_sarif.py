"""SARIF against the official schema, and the places that code scanning shows findings at.

``tests/data/sarif-schema-2.1.0.json.gz`` is OASIS' schema of SARIF 2.1.0 with errata 01, from ``sarif-2.1/schema`` of
https://github.com/oasis-tcs/sarif-spec at e058381 (OASIS IPR policy, RF on RAND; copies may be made and distributed).
"""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from ulsam_deploy.cli import main
from ulsam_deploy.device.checks import Check
from ulsam_deploy.device.commands.sarif import sarif
from ulsam_deploy.device.findings import Verdict

from ..handmade import make_bundle

SCHEMA = json.loads(gzip.decompress((Path(__file__).parents[2] / "data/sarif-schema-2.1.0.json.gz").read_bytes()))
CHECKS = [
    Check("onnx fp32", "output y", Verdict.FAIL, "off by \u202e12 floors\nTo see it again: \x1b[2J"),
    Check("onnx fp32", "evidence", Verdict.INCONCLUSIVE, "no engine"),
    Check("tflite int8", "evidence", Verdict.UNVERIFIED),
    Check("tflite int8", "presence", Verdict.PASS),
]


def findings(document: Any) -> Any:
    """The results of a document that the schema accepts; their rules are declared, their fingerprints differ."""
    jsonschema.Draft4Validator(SCHEMA).validate(document)
    (run,) = document["runs"]
    rules = [rule["id"] for rule in run["tool"]["driver"]["rules"]]
    assert len(rules) == len(set(rules))
    assert {one["ruleId"] for one in run["results"]} == set(rules)
    prints = [one["partialFingerprints"]["primaryLocationLineHash"] for one in run["results"]]
    assert len(prints) == len(set(prints))
    return run["results"]


def place(result: Any) -> str:
    return str(result["locations"][0]["physicalLocation"]["artifactLocation"]["uri"])


def test_the_schema_is_one_that_can_refuse() -> None:
    document = json.loads(sarif(Path("net.bundle"), CHECKS))
    document["runs"][0]["results"][0]["level"] = "failure"
    assert len(list(jsonschema.Draft4Validator(SCHEMA).iter_errors(document))) == 1


@pytest.mark.parametrize("checks", [CHECKS, CHECKS[3:], []], ids=["all kinds", "a pass", "none"])
def test_the_official_schema_accepts_it(checks: list[Check]) -> None:
    found = findings(json.loads(sarif(Path("net.bundle"), checks)))
    assert [one["level"] for one in found] == ["error", "warning", "note"][: len(checks) and 3 * (len(checks) > 1)]


def test_a_finding_is_at_the_path_in_the_repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for typed, shown in (
        ("nets/a b%.bundle", "nets/a%20b%25.bundle"),
        ("./nets/../net.bundle", "net.bundle"),
        (tmp_path / "net.bundle", "net.bundle"),
        ("/elsewhere/net.bundle", "file:///elsewhere/net.bundle"),
        (os.fsdecode(b"n\xff.pt"), "n%FF.pt"),
    ):
        (found, *_) = findings(json.loads(sarif(Path(typed), CHECKS)))
        assert place(found) == shown


def test_what_compare_finds_is_shown_at_the_new_build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    make_bundle(tmp_path / "old", targets=("onnx", "tflite"))
    make_bundle(tmp_path / "new", targets=("onnx",))
    assert main(["compare", "old", "new", "--sarif", "found.sarif"]) == 1
    found = findings(json.loads((tmp_path / "found.sarif").read_bytes()))
    assert [(place(one), one["ruleId"], one["level"]) for one in found] == [("new", "presence", "error")]
    assert "the baseline has it, and it is gone" in found[0]["message"]["text"]
