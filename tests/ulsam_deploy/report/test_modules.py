"""Every module by itself, on the page: worst first, wrong ones marked, what was not seen said."""

from __future__ import annotations

import re

import pytest

from ulsam_deploy.device.findings import Replay, ReplayedModule
from ulsam_deploy.report.modules import replay_table


def module(name: str, ratio: float | None, *, wrong: bool = False, region: int = 1) -> ReplayedModule:
    return ReplayedModule(name, "conv2d", ratio, 1e-7, 0.0, region, wrong=wrong)


def replay(*modules: ReplayedModule, unseen: float = 0.0, outputs: bool = True) -> Replay:
    return Replay(1, 8.0, 0.75, 0.25 - unseen, unseen, outputs=outputs, modules=modules)


def test_the_worst_module_of_any_artifact_comes_first() -> None:
    found = replay_table(
        {
            "onnx": replay(module("a", 0.5), module("b", 7.0), module("", 0.25)),
            "tflite": replay(module("b", 0.1), module("a", 130.0, wrong=True, region=3), module("c", None)),
        },
        "",
    )
    assert found
    assert found.columns == ("module", "onnx: errors in roundings", "tflite: errors in roundings")
    assert found.rows == [
        ("a", "0.5 (conv2d)", "130 (conv2d, 3 operators together) WRONG"),
        ("b", "7 (conv2d)", "0.1 (conv2d)"),
        ("forward", "0.25 (conv2d)", ""),
        ("c", "", "not seen (conv2d)"),
    ]
    assert found.all_rows == ()


def test_a_wrong_module_that_nothing_resembles_is_first_of_all() -> None:
    found = replay_table({"onnx": replay(module("a", 1e9, wrong=True), module("b", None, wrong=True))}, "")
    assert found
    assert [row[0] for row in found.rows] == ["b", "a"]
    assert found.rows[0][1] == "far off (conv2d) WRONG"


def test_coverage_is_said() -> None:
    found = replay_table({"onnx": replay(module("a", 0.5), unseen=0.2, outputs=False)}, "")
    assert found
    assert found.coverage == [
        "onnx: 75% of the multiply-adds alone, 5% with their neighbours, 20% not seen; not every output was reached; "
        "8 roundings are allowed."
    ]


def test_many_modules_are_all_there_and_drawn_in_the_networks_order() -> None:
    found = replay_table({"onnx": replay(*(module(f"m.{i}", 0.1 + i / 40) for i in range(40)))}, "s0-")
    assert found
    assert len(found.rows) == 12
    assert len(found.all_rows) == 40
    assert found.rows[0][0] == "m.39"
    plot = str(found.plot)
    assert re.findall(r">(m\.\d+)<", plot) == [f"m.{i}" for i in range(0, 40, 4)]
    assert "allowed: 8" in plot
    assert "s0-modules" in plot


@pytest.mark.parametrize("ratio", [None, 0.0, 1e200])
def test_what_no_axis_can_show_is_not_drawn(ratio: float | None) -> None:
    found = replay_table({"onnx": replay(module("a", ratio), module("b", ratio))}, "")
    assert found
    assert found.plot == ""


def test_without_replay_there_is_no_section() -> None:
    assert replay_table({}, "") is None
