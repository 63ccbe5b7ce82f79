"""The calibration set: read as probes are, known by its values, refused where it is what is checked on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ulsam_deploy.device.errors import UsageError
from ulsam_deploy.device.progress import Progress
from ulsam_deploy.device.types import Calibration, TensorSpec
from ulsam_deploy.exporting.options import ExportOptions
from ulsam_deploy.exporting.pipeline import export
from ulsam_deploy.inputs import calibration

INPUT = (TensorSpec("x", (1, 3, 4, 5)),)


def samples(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, 3, 4, 5)).astype(np.float32)


def of(array: np.ndarray) -> Calibration:
    return Calibration({"x": array}, calibration.digest({"x": array}))


def test_a_file_and_a_folder_with_the_same_values_are_one_set(tmp_path: Path) -> None:
    array = samples(6)
    np.savez(tmp_path / "set.npz", anything=array)
    folder = tmp_path / "folder"
    folder.mkdir()
    for i, sample in enumerate(array):
        np.save(folder / f"{i}.npy", sample)
    first = calibration.read_calibration(tmp_path / "set.npz", INPUT)
    second = calibration.read_calibration(folder, INPUT)
    assert first.digest == second.digest == calibration.digest({"x": array})
    np.testing.assert_array_equal(first.arrays["x"], array)


def test_the_digest_knows_names_shapes_and_values() -> None:
    array = samples(4)
    other = array.copy()
    other[0, 0, 0, 0] += 1
    digests = [{"x": array}, {"y": array}, {"x": array[:2]}, {"x": other}, {"x": array.reshape(4, 3, 5, 4)}]
    assert len({calibration.digest(arrays) for arrays in digests}) == len(digests)


@pytest.mark.parametrize("count", [1, calibration.FEW - 1, calibration.FEW])
def test_a_tiny_set_is_warned_about(count: int) -> None:
    said = calibration.note(of(samples(count)))
    assert (f"has {count} samples" in said) == (count < calibration.FEW)


def test_a_sample_that_is_a_probe_is_refused_by_its_name() -> None:
    array, probes = samples(8), samples(5, seed=1)
    calibration.check_disjoint(of(array), {"x": probes}, [f"p{i}" for i in range(5)])
    probes[3] = array[6]
    with pytest.raises(UsageError, match="sample 6 of the calibration set is the probe 'p3'"):
        calibration.check_disjoint(of(array), {"x": probes}, [f"p{i}" for i in range(5)])


def test_a_recompressed_copy_counts_and_another_picture_does_not() -> None:
    array, probes = samples(8), samples(1, seed=1)
    probes[0] = array[2] + 0.02 * samples(1, seed=2)[0]
    with pytest.raises(UsageError, match="sample 2"):
        calibration.check_disjoint(of(array), {"x": probes}, ["p"])
    probes[0] = array[2] + 0.3 * samples(1, seed=2)[0]
    calibration.check_disjoint(of(array), {"x": probes}, ["p"])


def test_black_pictures_count_for_nothing() -> None:
    array, probes = samples(4), samples(2, seed=1)
    array[1] = probes[0] = 0
    calibration.check_disjoint(of(array), {"x": probes}, ["a", "b"])


@pytest.mark.parametrize(("size", "most"), [(1, None), (3, None), (4, 5), (8, None)])
def test_batches_are_whole_and_hold_every_sample(size: int, most: int | None) -> None:
    array = samples(7)
    parts = list(of(array).batches(size, most))
    assert {len(part["x"]) for part in parts} == {size}
    seen = np.concatenate([part["x"] for part in parts])
    wanted = array[:most]
    np.testing.assert_array_equal(seen[: len(wanted)], wanted)
    np.testing.assert_array_equal(seen[len(array) :], np.resize(array, seen.shape)[len(array) :])


@pytest.mark.parametrize(("total", "batch"), [(4, 1), (40, 1), (400, 1), (40, 4)])
def test_some_samples_are_checked_on_and_give_no_range(total: int, batch: int) -> None:
    whole = of(samples(total))
    found = calibration.split(whole, batch)
    ranges, held_out = found.ranges, found.held_out
    rows = [tuple(sample.ravel()) for sample in np.concatenate([ranges.arrays["x"], held_out["x"]])]
    assert sorted(rows) == sorted(tuple(sample.ravel()) for sample in whole.arrays["x"])
    assert len(held_out["x"]) % batch == 0
    assert 1 <= len(held_out["x"]) <= max(batch, min(calibration.HELD_OUT, total // 4 + batch))
    assert ranges.digest == whole.digest


def test_a_set_of_one_has_nothing_to_check_on() -> None:
    with pytest.raises(UsageError, match="has 1 samples, and 1 of them"):
        calibration.split(of(samples(1)), 1)


def test_int8_without_a_set_says_how_to_give_one(checkpoint: Path, tmp_path: Path) -> None:
    options = ExportOptions(checkpoint, targets=("onnx",), output=tmp_path / "b", precisions=("int8",), cache=False)
    with pytest.raises(UsageError, match="needs real inputs") as refused:
        export(options, Progress(quiet=True))
    assert "--calibration" in str(refused.value)
    assert "int8-dynamic" in str(refused.value)
    assert not (tmp_path / "b").exists()


def test_a_set_that_overlaps_the_probes_stops_an_export(checkpoint: Path, tmp_path: Path) -> None:
    pictures = np.random.default_rng(0).uniform(0, 1, (8, 1, 96, 96)).astype(np.float32)
    np.savez(tmp_path / "calibration.npz", x=pictures)
    np.savez(tmp_path / "probes.npz", x=pictures[3:5])
    options = ExportOptions(
        checkpoint,
        targets=("onnx",),
        output=tmp_path / "b",
        precisions=("int8",),
        calibration=tmp_path / "calibration.npz",
        probes=tmp_path / "probes.npz",
        cache=False,
    )
    with pytest.raises(UsageError, match="of the calibration set is the probe 'yours-"):
        export(options, Progress(quiet=True))
