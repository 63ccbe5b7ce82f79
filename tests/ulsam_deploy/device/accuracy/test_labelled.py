"""Labelled data is read as it lies there, batch by batch, and refused where it would be a guess."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from ulsam_deploy.device.accuracy import hits, judged, open_labelled
from ulsam_deploy.device.accuracy.measuring import class_count
from ulsam_deploy.device.errors import UsageError
from ulsam_deploy.device.preprocessing import Preprocessing
from ulsam_deploy.device.types import TensorSpec

INPUT = (TensorSpec("x", (1, 3, 4, 4)),)
OUTPUT = (TensorSpec("scores", (1, 7)),)


def images(count: int, size: int = 4) -> np.ndarray:
    return np.random.default_rng(count).normal(size=(count, 3, size, size)).astype(np.float32)


def write(path: Path, **arrays: np.ndarray) -> Path:
    np.savez_compressed(path, **arrays)
    return path


@pytest.mark.parametrize("size", [1, 3, 100])
def test_an_npz_comes_back_in_order(tmp_path: Path, size: int) -> None:
    x, labels = images(10), np.arange(10) % 7
    data = open_labelled(write(tmp_path / "d.npz", anything=x, labels=labels), INPUT, 7)
    parts = list(data.batches(size))
    assert data.count == 10
    assert max(len(part) for _, part in parts) <= size
    np.testing.assert_array_equal(np.concatenate([feed["x"] for feed, _ in parts]), x)
    np.testing.assert_array_equal(np.concatenate([part for _, part in parts]), labels)


def test_several_inputs_go_by_name(tmp_path: Path) -> None:
    specs = (TensorSpec("left", (1, 2)), TensorSpec("right", (1, 3)))
    left, right = np.ones((4, 2), np.float32), np.zeros((4, 3), np.float32)
    path = write(tmp_path / "d.npz", right=right, labels=np.zeros(4, np.int32), left=left)
    (feed, _), *_ = open_labelled(path, specs, 2).batches(4)
    assert (feed["left"].shape, feed["right"].shape) == ((4, 2), (4, 3))
    with pytest.raises(UsageError, match="holds left beside its labels"):
        open_labelled(write(tmp_path / "e.npz", left=left, labels=np.zeros(4, int)), specs, 2)


def test_a_folder_per_class_goes_through_the_stated_preprocessing(tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image")
    pixels = np.random.default_rng(0).integers(0, 256, (3, 4, 4, 3), dtype=np.uint8)
    for number, name in enumerate(["cat", "dog", "newt"]):
        (tmp_path / name).mkdir()
        image.fromarray(pixels[number]).save(tmp_path / name / "a.png")
    how = Preprocessing(mean=(0.5,), std=(0.25,))
    data = open_labelled(tmp_path, INPUT, 3, how)
    assert data.labels.tolist() == [0, 1, 2]
    ((feed, _),) = data.batches(8)
    expected = (pixels.astype(np.float32) / 255 - 0.5) / 0.25
    np.testing.assert_allclose(feed["x"], expected.transpose(0, 3, 1, 2), rtol=1e-5, atol=1e-6)
    before = data.digest()
    (tmp_path / "cat" / "a.png").rename(tmp_path / "dog" / "b.png")
    assert open_labelled(tmp_path, INPUT, 3, how).digest() != before
    with pytest.raises(UsageError, match="--preprocessing"):
        list(open_labelled(tmp_path, INPUT, 3).batches(8))


def test_eight_bit_arrays_need_a_preprocessing(tmp_path: Path) -> None:
    pixels = np.full((2, 4, 4, 3), 255, np.uint8)
    path = write(tmp_path / "d.npz", x=pixels, labels=np.array([0, 1]))
    ((feed, _),) = open_labelled(path, INPUT, 2, Preprocessing()).batches(2)
    assert feed["x"].shape == (2, 3, 4, 4)
    assert (feed["x"] == 1).all()
    with pytest.raises(UsageError, match="states its preprocessing"):
        list(open_labelled(path, INPUT, 2).batches(2))


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"x": images(3)}, "holds x"),
        ({"x": images(3), "labels": np.array([0, 1, 7])}, "has class 7, and the network has 7"),
        ({"x": images(3), "labels": np.array([0, -1, 2])}, "has class -1"),
        ({"x": images(3), "labels": np.array([0.0, 1.0, 2.0])}, "is float64 of shape"),
        ({"x": images(3), "labels": np.array([0, 1])}, "expected: 2 samples"),
        ({"x": images(3, 5), "labels": np.arange(3)}, "float32 of shape 3x5x5 a sample"),
        ({"x": images(3).astype(np.float64), "labels": np.arange(3)}, "float64 of shape"),
        ({"x": images(3) * np.inf, "labels": np.arange(3)}, "not finite"),
        ({"x": np.asfortranarray(images(3)), "labels": np.arange(3)}, "columns first"),
    ],
)
def test_what_would_be_a_guess_is_refused(tmp_path: Path, arrays: dict[str, np.ndarray], said: str) -> None:
    with pytest.raises(UsageError) as error:
        list(open_labelled(write(tmp_path / "d.npz", **arrays), INPUT, 7).batches(2))
    assert said in str(error.value)


@pytest.mark.parametrize("names", [["0", "1", "2", "10"], ["1", "2", "3", "4"], ["a", "b"]])
def test_folders_that_could_be_another_class_are_refused(tmp_path: Path, names: list[str]) -> None:
    for name in names:
        (tmp_path / name).mkdir()
        np.save(tmp_path / name / "a.npy", images(1)[0])
    with pytest.raises(UsageError, match=r"could be either class|has 2 folders"):
        open_labelled(tmp_path, INPUT, 4)


@pytest.mark.parametrize("cut", [10, 200, -40])
def test_a_damaged_file_is_an_error_in_words(tmp_path: Path, cut: int) -> None:
    path = write(tmp_path / "d.npz", x=images(50), labels=np.arange(50) % 7)
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(UsageError, match="cannot be read"):
        list(open_labelled(path, INPUT, 7).batches(2))
    with pytest.raises(UsageError, match="cannot be read"):
        open_labelled(tmp_path / "none.npz", INPUT, 7)


def test_memory_stays_flat(tmp_path: Path) -> None:
    """Peak memory for 4096 samples is what it is for 256: only batches are held, and a few bytes a sample."""
    spec = (TensorSpec("x", (None, 3, 32, 32)),)

    def peak(count: int) -> int:
        path = write(tmp_path / f"{count}.npz", x=np.zeros((count, 3, 32, 32), np.float32), labels=np.zeros(count, int))
        tracemalloc.start()
        hits(lambda feed: {"scores": np.zeros((len(feed["x"]), 7))}, spec, OUTPUT, open_labelled(path, spec, 7))
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    few, many = peak(256), peak(4096)  # 3 MiB and 48 MiB of samples
    assert many < few + 400_000


@pytest.mark.parametrize("batch", [1, 4, None])
def test_hits_are_argmax_and_the_five_best(tmp_path: Path, batch: int | None) -> None:
    """A static batch that does not divide the count, equal scores and rows that are not finite included."""
    scores = np.random.default_rng(3).integers(0, 4, (10, 7)).astype(np.float32)
    scores[4] = np.nan
    labels = np.random.default_rng(4).integers(0, 7, 10)
    x = np.zeros((10, 1), np.float32)
    x[:, 0] = np.arange(10)
    inputs, outputs = (TensorSpec("x", (batch, 1)),), (TensorSpec("scores", (batch, 7)),)
    data = open_labelled(write(tmp_path / "d.npz", x=x, labels=labels), inputs, 7)

    def run(feed: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        assert batch is None or len(feed["x"]) == batch
        return {"scores": scores[feed["x"][:, 0].astype(int)]}

    found = hits(run, inputs, outputs, data)
    order = np.argsort(-scores, axis=1, kind="stable")
    finite = np.isfinite(scores).all(1)
    np.testing.assert_array_equal(found.top1, (order[:, 0] == labels) & finite)
    assert found.top5 is not None
    np.testing.assert_array_equal(found.top5, (order[:, :5] == labels[:, None]).any(1) & finite)
    said = judged(found, "itself", found)
    assert said.top1.value == found.top1.mean()
    assert said.paired
    assert (said.paired.lost, said.paired.won, said.paired.p) == (0, 0, 1.0)


def test_only_rows_of_scores_have_an_accuracy() -> None:
    assert class_count(OUTPUT) == 7
    with pytest.raises(UsageError, match="means nothing there"):
        class_count((TensorSpec("mask", (1, 3, 8, 8)),))
