"""The forecast against arithmetic done by hand, and against what is known of each format."""

from __future__ import annotations

import numpy as np
import pytest

from ulsam_deploy.device.bundle import Evidence
from ulsam_deploy.device.findings import ArtifactFacts, AttentionState, BlockCheck, Report, Verdict
from ulsam_deploy.device.types import Artifact, EvidenceLevel
from ulsam_deploy.graph.resolution import COLUMNS, _cut, annotated, forecast, in_short, rows, suggestion, word


def diffuse(size: int, spread: float = 0.2, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """An input (2, 4, size, size) and two maps near 1/(size*size)."""
    random = np.random.default_rng(seed)
    x = np.clip(random.normal(1, 1.5, (2, 4, size, size)), 0, 6)
    maps = np.exp(spread * random.normal(size=(2, 2, size, size)))
    return x, maps / maps.sum((2, 3), keepdims=True)


# By size of the map, the words for int8 plain, fp16 plain and bf16 plain.
KNOWN = [
    (7, "kept", "kept", "kept"),
    (28, "lost", "kept", "lost"),
    (56, "lost", None, "lost"),
    (112, "lost", "lost", "lost"),
]


@pytest.mark.parametrize(("size", "int8", "fp16", "bf16"), KNOWN)
def test_diffuse_attention_is_lost_on_the_maps_where_it_was_measured_to_be(
    size: int, int8: str, fp16: str | None, bf16: str
) -> None:
    found = forecast("block", *diffuse(size)).survives
    assert word(found["int8"]["plain"]) == int8
    assert fp16 is None or word(found["fp16"]["plain"]) == fp16
    assert word(found["bf16"]["plain"]) == bf16
    assert word(found["int8"]["float"]) == "kept"


def test_peaky_attention_survives_on_a_large_map() -> None:
    x, maps = diffuse(28, spread=3.0)
    assert forecast("block", x, maps).survives["int8"]["plain"] > 0.5
    assert forecast("block", x, maps).highest > 0.05


def test_int8_by_hand() -> None:
    """One position has a quarter of the attention, and the others less than half a step of the softmax."""
    x = np.full((1, 1, 32, 32), 255.0)
    maps = np.full((1, 1, 32, 32), 0.75 / 1023)
    maps[0, 0, 3, 4] = 0.25
    # x is the end of its range, 255 steps; the output's range ends at 255 * 1.25.
    step = 255 * 1.25 / 255
    kept = (np.round(255 * 1.25 / step) - np.round(255 / step)) * step * 0.25 * 255
    kept_without_range = (255 * 1.25 - 255) * 0.25 * 255
    total = np.square(255 * maps).sum()
    found = forecast("b", x, maps).survives["int8"]["plain"]
    assert found == pytest.approx(kept_without_range / total, abs=0.02)
    assert found == pytest.approx(kept / total, abs=0.02)


def test_separate_survives_fp16_where_one_plus_a_does_not() -> None:
    x, maps = diffuse(48, spread=0.0)
    found = forecast("block", x, maps).survives["fp16"]
    assert found["plain"] < 0.1
    assert found["separate"] > 0.5


def test_bfloat16_is_rounded_as_torch_does() -> None:
    torch = pytest.importorskip("torch")
    from ulsam_deploy.graph.resolution import _brain

    values = np.random.default_rng(0).normal(size=1000) * np.logspace(-20, 20, 1000)
    right = torch.from_numpy(values.astype(np.float32)).bfloat16().double().numpy()
    np.testing.assert_array_equal(_brain(values), right)


def test_a_suggestion_names_the_block_and_what_helps() -> None:
    said = suggestion(forecast("features.3", *diffuse(28)))
    assert "'features.3' (28 x 28" in said
    assert "int8: leave the block and its input in floating point" in said
    assert suggestion(forecast("features.3", *diffuse(5))) == ""


def test_rows_fit_their_columns_and_in_short_counts() -> None:
    found = [forecast("a", *diffuse(28)), forecast("b", *diffuse(5))]
    assert all(len(row) == len(COLUMNS) for row in rows(found))
    assert in_short(found) == "stored plainly, attention is lost in 1 of 2 in int8, 1 of 2 in bf16"
    assert in_short([]) == "no block"


def measured(retention: float) -> Report:
    block = BlockCheck("a", retention, retention - 0.1, retention + 0.1, AttentionState.KEPT, 9.0, "")
    return Report(Verdict.PASS, 8.0, (), (block,), None, ())


def test_an_artifact_carries_the_forecast_beside_what_was_measured() -> None:
    artifact = Artifact("onnx", "int8", (), (), (), EvidenceLevel.EXPORTED, {}, ArtifactFacts(attention="float"))
    evidence = Evidence(EvidenceLevel.EXECUTED, Verdict.PASS, parity=measured(0.97))
    facts = annotated(artifact, evidence, [forecast("a", *diffuse(28)), forecast("b", *diffuse(5))]).facts
    (first, second) = facts.resolution
    assert (first.block, first.measured, second.measured) == ("a", 0.97, None)
    assert first.plain < 0.1 < 0.9 < first.forecast
    (sentence,) = facts.suggestions
    assert "'a'" in sentence
    assert "0.97 was measured" in sentence
    assert "--precision" not in sentence
    dead = Evidence(EvidenceLevel.EXECUTED, Verdict.FAIL, parity=measured(0.2))
    lost = annotated(artifact, dead, [forecast("a", *diffuse(28))]).facts.suggestions
    assert "Export with --precision fp32" in lost[0]


def test_an_fp32_artifact_is_left_as_it_is() -> None:
    artifact = Artifact("onnx", "fp32", (), (), (), EvidenceLevel.EXPORTED, {})
    assert annotated(artifact, Evidence(EvidenceLevel.EXPORTED), [forecast("a", *diffuse(28))]) is artifact


def test_cutting_off_loses_attention_that_rounding_keeps() -> None:
    """On 18 x 18, ``a`` is about half a step of bfloat16, which rounding keeps on average and cutting never."""
    values = np.array([1 + 3 * 2.0**-9, -1 - 3 * 2.0**-9, 2.0, 0.0])
    np.testing.assert_array_equal(_cut(values), [1.0, -1.0, 2.0, 0.0])
    found = forecast("block", *diffuse(18)).survives["bf16"]
    assert word(found["separate"]) == "kept"
    assert word(found["cut"]) == "lost"
