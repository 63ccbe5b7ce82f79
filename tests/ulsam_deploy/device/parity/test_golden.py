import dataclasses
import io
import json
import time
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ulsam_deploy.device.errors import ExportError, RefusedError, UsageError
from ulsam_deploy.device.parity import Floor, Golden, check
from ulsam_deploy.device.parity.golden import PrecisionFloors
from ulsam_deploy.device.parity.sketch import LIMIT

FLOORS = {"logits": Floor(1e-3, 1e-3, 1)}


def rewritten(path, change):
    """The npz at ``path`` with its members changed by ``change(members)``."""
    with np.load(path) as file:
        members = dict(file)
    change(members)
    np.savez(path, **members)


def meta(members, **values):
    members["meta"] = np.frombuffer(json.dumps(json.loads(members["meta"].tobytes()) | values).encode(), np.uint8)


def test_what_was_saved_is_loaded(case: Any, tmp_path: Path) -> None:
    case.golden.save(tmp_path / "golden.npz")
    loaded = Golden.load(tmp_path / "golden.npz")
    for field in ("inputs", "outputs", "reference_ablations", "uniform_ablations"):
        for name, array in getattr(case.golden, field).items():
            again = getattr(loaded, field)[name]
            assert again.dtype == array.dtype
            np.testing.assert_array_equal(again, array)
    for field in ("shapes", "floors", "blocks", "probes"):
        assert getattr(loaded, field) == getattr(case.golden, field)


def test_the_same_set_gives_the_same_bytes_at_any_time(
    case: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    case.golden.save(tmp_path / "one.npz")
    monkeypatch.setattr(time, "time", lambda: 2_000_000_000.0)
    case.golden.save(tmp_path / "two.npz")
    assert (tmp_path / "one.npz").read_bytes() == (tmp_path / "two.npz").read_bytes()
    with zipfile.ZipFile(tmp_path / "one.npz") as archive:
        assert {info.date_time for info in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}


def test_steps_are_subtracted_in_float64() -> None:
    y, step = np.full((2, 3), 1e6), np.full((2, 3), 1e-4)
    runs = {"y": {"o": y}, "t": {"o": y + step}}
    x = {"x": np.zeros((2, 1), np.float32)}
    golden = Golden.build(x, runs["y"], [runs["t"]], [runs["y"]], blocks=["b"], probes=["p", "q"])
    np.testing.assert_allclose(golden.reference_ablations["o"][0], step, rtol=1e-5)


def test_a_dense_output_stays_small_and_is_checked_all_the_same(new_case: Any, tmp_path: Path) -> None:
    case = new_case(count=12, size=(64, 48), dense=True)
    assert case.golden.shapes["logits"] == (10, 32, 24)
    assert case.golden.outputs["logits"].shape == (12, LIMIT)
    case.golden.save(tmp_path / "golden.npz")
    golden = Golden.load(tmp_path / "golden.npz")
    assert check(golden, case.run(batch=5)).verdict.value == "pass"
    wrong = case.run()
    wrong["logits"][3, 4, 17, 9] *= 1.001  # one element of 92160
    report = check(golden, wrong)
    assert report.verdict.value == "fail"
    assert (report.outputs[0].probe, report.outputs[0].statistic) == (golden.probes[3], "peak")
    dead = check(golden, case.faulty(dead=1, block=1))
    assert [block.state.value for block in dead.blocks] == ["kept", "lost"]


def test_take_reorders_everything(case: Any) -> None:
    order = list(range(len(case.golden.probes)))[::-1]
    reversed_ = case.golden.take(order)
    assert reversed_.probes == case.golden.probes[::-1]
    assert check(reversed_, {"logits": case.run()["logits"][::-1]}).verdict.value == "pass"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"blocks": ("one",)}, "ablation step of output 'logits'"),
        ({"blocks": ("one", "one")}, "two blocks have one name"),
        ({"probes": ()}, "at least one probe"),
        ({"probes": ("same",) * 24}, "a name of its own"),
        ({"shapes": {"logits": (11,)}}, "the output 'logits' is float64"),
        ({"shapes": {"logits": (0,)}}, "is empty"),
        ({"shapes": {}}, "different outputs"),
        ({"outputs": {}}, "no outputs"),
        ({"inputs": {"image": np.zeros((3, 2))}}, "input 'image' has shape"),
        ({"inputs": {"image": np.full((24, 2), np.nan)}}, "not finite"),
        ({"precision_floors": {"fp16": PrecisionFloors({}, (0,))}}, "the fp16 noise floor of output 'logits'"),
        (
            {"precision_floors": {"fp16": PrecisionFloors({"logits": Floor(0.0, 1.0, 1)}, (0,))}},
            "the fp16 noise floor of output",
        ),
        ({"precision_floors": {"fp16": PrecisionFloors(FLOORS, ())}}, "the probes of fp16 are not among its 24 probes"),
        (
            {"precision_floors": {"fp16": PrecisionFloors(FLOORS, (0, 24))}},
            "the probes of fp16 are not among its 24 probes",
        ),
        (
            {"artifact_ablations": {"onnx-int8": {"logits": np.zeros((1, 24, 10))}}},
            "the ablations of onnx-int8 do not fit the 2",
        ),
        (
            {"artifact_ablations": {"onnx-int8": {"logits": np.full((2, 24, 10), np.nan)}}},
            "the ablations of onnx-int8 do not fit",
        ),
    ],
)
def test_parts_that_do_not_fit_are_refused(case: Any, change: Any, words: str) -> None:
    with pytest.raises(ExportError, match=words):
        dataclasses.replace(case.golden, **change)


def test_ablations_must_match_blocks(case: Any) -> None:
    with pytest.raises(ExportError, match="1 reference ablations were given for 0 blocks"):
        Golden.build({}, {}, [{}], [{}], blocks=[], probes=[])


@pytest.mark.parametrize(
    "change",
    [
        lambda m: m.pop("output_0"),
        lambda m: m.pop("meta"),
        lambda m: m.update(output_0=m["output_0"].astype(np.float32)),
        lambda m: m.update(output_0=m["output_0"] * np.nan),
        lambda m: m.update(reference_ablation_0=m["reference_ablation_0"][:, :3]),
        lambda m: m.update(uniform_ablation_0=m["uniform_ablation_0"][:, :3]),
        lambda m: m.update(uniform_ablation_0=m["uniform_ablation_0"] * np.nan),
        lambda m: m.update(meta=np.frombuffer(b"{", np.uint8)),
        lambda m: m.update(meta=np.frombuffer(b"\xff\xfe", np.uint8)),
        lambda m: m.update(meta=np.frombuffer(b"[]", np.uint8)),
        lambda m: meta(m, schema="ulsam-deploy/golden/999"),
        lambda m: meta(m, floors={"logits": {"l2": 0.0, "peak": 1.0, "runs": 1}}),
        lambda m: meta(m, floors={"logits": {"l2": "much", "peak": 1.0, "runs": 1}}),
        lambda m: meta(m, floors={"logits": {"more": 1}}),
        lambda m: meta(m, shapes=7),
    ],
)
def test_a_changed_file_is_refused(case: Any, tmp_path: Path, change: Any) -> None:
    path = tmp_path / "golden.npz"
    case.golden.save(path)
    rewritten(path, change)
    with pytest.raises(RefusedError, match="not a sound golden set"):
        Golden.load(path)


def test_random_truncated_and_flipped_bytes_are_refused(case: Any, tmp_path: Path) -> None:
    path = tmp_path / "golden.npz"
    case.golden.save(path)
    whole = path.read_bytes()
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 0xFF
    for data in (
        b"",
        b"PK\x03\x04",
        whole[: len(whole) // 2],
        whole[:-10],
        bytes(flipped),
        np.random.default_rng(0).bytes(999),
    ):
        path.write_bytes(data)
        with pytest.raises(RefusedError):
            Golden.load(path)


def test_a_pickle_inside_is_refused_and_not_run(case: Any, tmp_path: Path) -> None:
    path = tmp_path / "golden.npz"
    case.golden.save(path)
    rewritten(path, lambda m: m.update(input_0=np.array([{"code": print}], dtype=object)))
    with pytest.raises(RefusedError, match="Python objects"):
        Golden.load(path)


def test_a_file_that_would_unpack_to_too_much_is_refused_unread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ulsam_deploy.device.npz.MAX_BYTES", 1000)
    buffer = io.BytesIO()
    np.savez_compressed(buffer, big=np.zeros(10_000))
    (tmp_path / "golden.npz").write_bytes(buffer.getvalue())
    with pytest.raises(RefusedError, match="would unpack"):
        Golden.load(tmp_path / "golden.npz")


def test_no_file_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is no file"):
        Golden.load(tmp_path / "none.npz")
