"""Instruction counts: the same each time, of the size that arithmetic demands, by kernel, and held to a budget."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ulsam_deploy.cli import main

from .conftest import WIDTH

pytestmark = pytest.mark.arm

Ask = Callable[..., Any]
WORDS = ("--device", "rpi5", "--count")
#: A wait of five instructions in the guest is repeated once or twice more on a busy host (seen: 4 of 20 loads).
WAITS = 4 * 5


def by_target(found: Any) -> dict[str, Any]:
    return {artifact["target"]: artifact["counts"] for artifact in found["artifacts"]}


def test_counts_repeat_and_are_what_a_matrix_product_costs(dense: Path, answer: Ask) -> None:
    first, second = (by_target(answer("bench", dense, *WORDS)) for _ in range(2))
    assert sorted(first) == ["onnx", "tflite"]
    for target, counts in first.items():
        count = counts["inference"]["instructions"]
        assert abs(count - second[target]["inference"]["instructions"]) <= 1e-6 * count + WAITS, target
        # four products an instruction: one batch through WIDTH x WIDTH weights
        fused = counts["inference"]["classes"]["fma"]
        assert WIDTH**2 / 4 <= fused <= 1.1 * WIDTH**2 / 4, target
        assert counts["inference"]["classes"]["dot_product"] == 0
        assert fused <= counts["inference"]["classes"]["simd"] < count
        assert counts["inference"]["classes"]["load_store"] >= WIDTH**2 / 16  # at most 4 registers of 4 at once
        assert counts["load"]["instructions"] > count
        assert sorted(counts["runs"])[len(counts["runs"]) // 2] == count
        spent = sum(kernel["instructions"] for kernel in counts["kernels"])
        assert abs(spent - count) < 0.1 * count, "kernels are the mean of the runs, the count is their median"
    top = first["tflite"]["kernels"][0]
    assert top["name"].startswith("xnn_f32_gemm")
    assert top["library"].startswith("libpywrap_litert")


def test_it_is_said_that_this_is_no_latency(dense: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    summary = tmp_path / "summary.md"
    assert main(["bench", str(dense), *WORDS, "--targets", "tflite", "--markdown", str(summary)]) == 0
    out = capsys.readouterr().out
    assert "a count, not a latency" in out
    assert "xnn_f32_gemm" in out
    assert "a count, not a latency" in summary.read_text()


def test_a_budget_of_an_own_profile_is_exit_1(
    dense: Path, answer: Ask, own_profile: Callable[[str], None], tmp_path: Path
) -> None:
    own_profile('[mine]\ntitle = "my board"\nlike = "rpi4"\n[mine.budget]\ninstructions_m = 0.01\nsize_mb = 0.5\n')
    junit = tmp_path / "junit.xml"
    words = ("--device", "mine", "--count", "--targets", "tflite", "--junit", junit)
    counts = by_target(answer("bench", dense, *words, code=1))["tflite"]
    assert len(counts["over"]) == 2
    assert "the budget of mine is 0.01" in junit.read_text()
