"""Retention by an artifact's own ablations, and by a look inside: what they decide, and what they leave alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ulsam_deploy.device.errors import ExportError, UnavailableError
from ulsam_deploy.device.findings import Verdict
from ulsam_deploy.device.parity import AttentionState, Golden, PrecisionFloors, check, noise_floors, tolerance_of
from ulsam_deploy.device.parity.retention import by_ablations

from .conftest import BLOCKS, Case


def artifact(case: Case, bits: int = 8, **faults: Any) -> tuple[dict[str, Any], dict[str, Any], Any]:
    """What an artifact with weights rounded to ``bits`` gives, its ablations, and sound floors in that precision."""
    rounded = {"rounded": bits}
    whole = case.run(faults={**faults, **rounded})
    ablations = [case.run(faults={"dead": 1, "block": b, **rounded}) for b in range(len(BLOCKS))]
    if faults.get("dead") == 1:  # the ablation of a dead block is the artifact itself
        ablations[faults["block"]] = whole
    artifact_ablations = {"logits": np.stack([ablation["logits"] for ablation in ablations])}
    floors = noise_floors(case.golden.outputs, [case.run(faults=rounded), case.run(order=3, faults=rounded)])
    return whole, artifact_ablations, floors


def test_rounded_weights_drop_out_of_the_difference(case: Case) -> None:
    whole, artifact_ablations, floors = artifact(case, bits=8)
    for found in by_ablations(case.golden, whole, artifact_ablations, floors):
        assert found.state is AttentionState.KEPT
        assert found.value == pytest.approx(1, abs=0.1)


def test_in_float32_ablations_decide_only_what_the_outputs_leave_open(case: Case) -> None:
    whole, artifact_ablations, _ = artifact(case, bits=23)
    other = {name: array[::-1] for name, array in artifact_ablations.items()}
    kept = check(case.golden, whole, artifact_ablations=other, outputs_decide=True)
    assert [block.state for block in kept.blocks] == [AttentionState.KEPT] * len(BLOCKS)
    overruled = check(case.golden, whole, artifact_ablations=other)
    assert [block.state for block in overruled.blocks] != [AttentionState.KEPT] * len(BLOCKS)


@pytest.mark.parametrize("block", [0, 1])
def test_a_dead_block_is_found_by_name(case: Case, block: int) -> None:
    whole, artifact_ablations, floors = artifact(case, bits=11, dead=1, block=block)
    found = by_ablations(case.golden, whole, artifact_ablations, floors)
    assert found[block].state is AttentionState.LOST
    assert found[block].value == 0
    report = check(case.golden, whole, floors=floors, artifact_ablations=artifact_ablations)
    assert report.verdict is Verdict.FAIL
    assert any(f"'{BLOCKS[block]}' is lost" in reason.text for reason in report.reasons)


def test_what_ablations_say_decides_and_what_outputs_say_is_kept(case: Case) -> None:
    whole, artifact_ablations, floors = artifact(case, bits=6)
    alone = check(case.golden, whole, floors=floors)
    with_ablations = check(case.golden, whole, floors=floors, artifact_ablations=artifact_ablations)
    for before, after in zip(alone.blocks, with_ablations.blocks):
        assert after.outputs is not None
        assert (after.outputs.value, after.outputs.state) == (before.retention, before.state)


def noisy(case: Case) -> tuple[dict[str, Any], dict[str, Any], Any]:
    """An artifact and ablations in which every later rounding answers to the smallest change: noise hides the steps."""
    random = np.random.default_rng(0)
    size = np.abs(case.golden.outputs["logits"]).max()

    def run() -> Any:
        return case.golden.outputs["logits"] + size * random.normal(size=case.golden.outputs["logits"].shape)

    whole, artifact_ablations = {"logits": run()}, {"logits": np.stack([run() for _ in BLOCKS])}
    return whole, artifact_ablations, noise_floors(case.golden.outputs, [whole])


def test_a_look_inside_decides_only_where_nothing_else_can(case: Case) -> None:
    whole, artifact_ablations, floors = noisy(case)
    blind = check(case.golden, whole, floors=floors, artifact_ablations=artifact_ablations)
    assert [block.state for block in blind.blocks] == [AttentionState.INCONCLUSIVE] * 2
    seen = check(
        case.golden,
        whole,
        floors=floors,
        artifact_ablations=artifact_ablations,
        inside=((1.0, 0.97, 1.03), (0.0, 0.0, 0.0)),
    )
    assert [block.state for block in seen.blocks] == [AttentionState.KEPT, AttentionState.LOST]
    assert seen.verdict is Verdict.FAIL
    half = check(
        case.golden, whole, floors=floors, artifact_ablations=artifact_ablations, inside=((1.0, 0.97, 1.03), None)
    )
    assert [block.state for block in half.blocks] == [AttentionState.KEPT, AttentionState.INCONCLUSIVE]
    vague = check(
        case.golden,
        whole,
        floors=floors,
        artifact_ablations=artifact_ablations,
        inside=((1.0, 0.97, 1.03), (0.8, 0.3, 1.2)),
    )
    assert "the interval is 0.30 to 1.20" in vague.blocks[1].note
    clear, its_ablations, its_floors = artifact(case)
    kept = check(case.golden, clear, floors=its_floors, artifact_ablations=its_ablations, inside=((0.0, 0.0, 0.0),) * 2)
    assert [block.state for block in kept.blocks] == [AttentionState.KEPT] * 2
    said = [reason for reason in kept.reasons if reason.text.startswith("Note: read inside the artifact")]
    assert [block in reason.text and "is lost" in reason.text for block, reason in zip(BLOCKS, said)] == [True, True]
    assert kept.verdict is check(case.golden, clear, floors=its_floors, artifact_ablations=its_ablations).verdict


def test_a_step_below_the_grid_of_float32_is_not_called_dead(case: Case) -> None:
    """A whole artifact and its ablation give the same bytes then, and so would one whose attention is lost."""
    import dataclasses

    golden = dataclasses.replace(
        case.golden, reference_ablations={"logits": (1e-9 * case.golden.reference_ablations["logits"])}
    )
    whole = case.run()
    found = by_ablations(golden, whole, {"logits": np.stack([whole["logits"]] * 2)}, golden.floors)
    assert [one.state for one in found] == [AttentionState.INCONCLUSIVE] * 2


def test_int8_is_held_to_a_tighter_multiple_of_its_wider_floor() -> None:
    assert tolerance_of("int8") == tolerance_of("int8-dynamic") < tolerance_of("fp16") == tolerance_of("fp32")


def test_a_golden_set_keeps_precision_floors_ablations_and_readings(case: Case, tmp_path: Any) -> None:
    import dataclasses

    _, artifact_ablations, floors = artifact(case)
    kept = tuple(range(0, len(case.golden.probes), 2))
    whole = dataclasses.replace(
        case.golden,
        precision_floors={"int8": PrecisionFloors(floors, kept)},
        artifact_ablations={"onnx-int8": {"logits": artifact_ablations["logits"][:, list(kept)].astype(np.float32)}},
        inside={"onnx-int8": ((1.0, 0.9, 1.1), None)},
    )
    path = tmp_path / "golden.npz"
    whole.save(path)
    again = Golden.load(path)
    assert again.inside == whole.inside
    assert again.precision_floors == whole.precision_floors
    np.testing.assert_array_equal(
        again.artifact_ablations["onnx-int8"]["logits"], whole.artifact_ablations["onnx-int8"]["logits"]
    )
    judged = again.at("int8")
    assert judged.probes == tuple(case.golden.probes[i] for i in kept)
    assert judged.floors == floors
    assert again.at("fp32") is again
    with pytest.raises(UnavailableError, match="no control runs in fp16"):
        again.at("fp16")
    with pytest.raises(ExportError, match="does not fit"):
        dataclasses.replace(case.golden, inside={"onnx-int8": (None,)})
