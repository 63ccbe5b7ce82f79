"""The differential fuzzer: one network now, and the planted fault found; more of both when there is time."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from ulsam_deploy.device import plugins

from . import engines


def test_a_network_agrees_and_a_planted_fault_is_found(tmp_path: Path) -> None:
    fuzzer = engines.Fuzzer(tmp_path)
    fuzzer.network(3, ["onnx"], "attention dead")
    assert (fuzzer.finds, fuzzer.missed) == ([], [])
    assert fuzzer.counts["onnx pass"] == 1
    assert fuzzer.counts["faults found"] == fuzzer.counts["faults planted"] == 1


@pytest.mark.slow
def test_an_engine_that_is_wrong_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = plugins.load(plugins.RUNTIMES, "onnxruntime")
    sound = engine._run

    def wrong(self: Any, inputs: dict[str, Any]) -> dict[str, Any]:
        return {name: array * 1.001 for name, array in sound(self, inputs).items()}

    monkeypatch.setattr(engine, "_run", wrong)
    fuzzer = engines.Fuzzer(tmp_path)
    fuzzer.network(3, ["onnx"], "head off by 1 %")
    (find,) = fuzzer.finds
    assert dataclasses.astuple(find)[:2] == (3, "onnx")
    assert find.said.startswith("fail: ")


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_many_networks_through_every_engine() -> None:
    fuzzer = engines.run(iter(range(1000, 10_000)), 240)
    assert (fuzzer.finds, fuzzer.missed) == ([], [])
    assert fuzzer.counts["networks"] > 5
