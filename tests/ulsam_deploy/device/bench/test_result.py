"""Result files: what is written is read, whatever else is refused in words, and the published schema says the same."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ulsam_deploy.device import codec
from ulsam_deploy.device.bench.result import Result, json_schema, pack_samples, unpack_samples
from ulsam_deploy.device.errors import RefusedError

from .results import THROTTLED, measured, noisy, result

PUBLISHED = Path(__file__).parents[4] / "docs" / "bench.schema.json"


@pytest.fixture(scope="module")
def made() -> Result:
    return result(measured(noisy(6, 0)), measured(noisy(6, 1, 1.2), THROTTLED, target="tflite"))


def test_it_reads_what_it_writes(made: Result) -> None:
    again = Result.from_json(made.to_json())
    assert again == made
    assert [times.tolist() for times in again.of("onnx fp32").times()] == [t.tolist() for t in noisy(6, 0)]
    assert again.fastest == "onnx fp32"


def test_the_published_schema_is_the_one_the_code_follows() -> None:
    assert PUBLISHED.read_text() == codec.dumps(json_schema()), (
        "python -c 'from ulsam_deploy.device.bench.result import json_schema; from ulsam_deploy.device import codec; "
        f'print(codec.dumps(json_schema()), end="")\' > docs/{PUBLISHED.name}'
    )


CHANGES: dict[str, tuple[Callable[[Any], Any], str]] = {
    "unknown key": (lambda d: d["measured"][0].update(latencies=1), "unknown key 'latencies'"),
    "missing key": (lambda d: d["machine"].pop("board"), "'board' is missing"),
    "another version": (lambda d: d.update(schema="ulsam-deploy.bench/1"), "another version of the format"),
    "the version before": (lambda d: d.update(schema="ulsam-deploy.bench/2"), "another version of the format"),
    "another schema": (lambda d: d.update(schema="ulsam-deploy.bundle/2"), "wants another ulsam-deploy"),
    "free engine": (lambda d: d["measured"][0]["engine"].update(free={}), "unknown key 'free'"),
    "unknown condition": (lambda d: d.update(condition="fine"), "isn't a known word"),
    "no samples": (lambda d: d["measured"][0]["processes"][0].update(count=0), "too small"),
    "text for a number": (lambda d: d["measured"][0].update(load_ms="1"), "wrong type"),
    "short hash": (lambda d: d.update(sha256="ab"), "SHA-256"),
    "no session": (lambda d: d.update(session=""), "16 small hexadecimal digits"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_code_and_schema_refuse_the_same(made: Result, name: str) -> None:
    change, words = CHANGES[name]
    plain = json.loads(made.to_json())
    validator = jsonschema.Draft202012Validator(json_schema())
    jsonschema.Draft202012Validator.check_schema(json_schema())
    assert validator.is_valid(plain)
    changed = copy.deepcopy(plain)
    change(changed)
    assert not validator.is_valid(changed)
    with pytest.raises(RefusedError, match=words):
        Result.from_json(json.dumps(changed))


def test_an_artifact_twice_and_nothing_at_all_are_refused(made: Result) -> None:
    plain = json.loads(made.to_json())
    with pytest.raises(RefusedError, match="is there twice"):
        Result.from_json(json.dumps({**plain, "measured": [plain["measured"][0]] * 2}))
    with pytest.raises(RefusedError, match="nothing that was measured"):
        Result.from_json(json.dumps({**plain, "measured": []}))


@settings(deadline=None, max_examples=50)
@given(st.lists(st.integers(0, 2**62), min_size=1, max_size=200))
def test_samples_survive_packing(times: list[int]) -> None:
    assert unpack_samples(pack_samples(np.array(times, np.int64)), len(times)).tolist() == times


@pytest.mark.parametrize(
    ("text", "count"),
    [
        (pack_samples(np.arange(5)), 4),
        (pack_samples(np.arange(5)), 6),
        (pack_samples(np.array([-1])), 1),
        ("!", 1),
        ("AAAA", 1),
        (pack_samples(np.arange(5))[:-8], 5),
        (pack_samples(np.zeros(10**6, np.int64)), 1),  # a small text that unpacks to megabytes
        ("", 10**9),
    ],
)
def test_damaged_samples_are_refused(text: str, count: int) -> None:
    with pytest.raises(RefusedError):
        unpack_samples(text, count)
