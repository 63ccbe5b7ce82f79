"""``--probes``: the user's own inputs are checked besides the built-in ones, and refused in words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ulsam_deploy.device.errors import UsageError
from ulsam_deploy.device.progress import Progress
from ulsam_deploy.exporting.network import network_stages
from ulsam_deploy.exporting.options import ExportOptions
from ulsam_deploy.inputs.probes import PROBES, digest, read, with_built_in

SHAPES = {"x": (3, 8, 6)}


def images(count: int) -> np.ndarray[Any, Any]:
    return np.random.default_rng(count).normal(size=(count, 3, 8, 6)).astype(np.float32)


def test_an_npz_with_one_array_under_any_name(tmp_path: Path) -> None:
    np.savez(tmp_path / "p.npz", anything=images(3))
    probes, names = read(tmp_path / "p.npz", SHAPES)
    np.testing.assert_array_equal(probes["x"], images(3))
    assert names == ("yours-0", "yours-1", "yours-2")


def test_a_folder_of_arrays_is_named_by_file(tmp_path: Path) -> None:
    np.save(tmp_path / "cat.npy", images(1)[0])
    np.save(tmp_path / "dogs.npy", images(2))
    probes, names = read(tmp_path, SHAPES)
    assert names == ("yours-cat", "yours-dogs-0", "yours-dogs-1")
    np.testing.assert_array_equal(probes["x"], np.concatenate([images(1), images(2)]))
    before = digest(tmp_path)
    np.save(tmp_path / "dogs.npy", images(3))
    assert digest(tmp_path) != before, "other probes must never find the old ones' cache entry"


@pytest.mark.parametrize("batch", [1, 4, 5])
def test_whole_batches_with_every_probe_of_the_user(tmp_path: Path, batch: int) -> None:
    np.savez(tmp_path / "p.npz", x=images(3))
    probes, names = with_built_in(tmp_path / "p.npz", SHAPES, batch)
    assert len(names) == len(set(names)) == len(probes["x"])
    assert len(names) % batch == 0
    assert PROBES + 3 <= len(names) < PROBES + 3 + batch
    np.testing.assert_array_equal(probes["x"][-3:], images(3))


def bad(**arrays: Any) -> dict[str, Any]:
    return arrays


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        (bad(x=images(2)[:, :2]), "3x8x6"),
        (bad(x=images(2).transpose(0, 2, 3, 1)), "3x8x6"),
        (bad(x=images(0)), "3x8x6"),
        (bad(x=np.float32(1)), "a single number"),
        (bad(x=images(2).astype(np.uint8)), "uint8"),
        (bad(x=images(2).astype(np.float64)), "float32"),
        (bad(x=images(2) * np.array([1, np.nan], np.float32)[:, None, None, None]), "not finite in sample 1"),
        (bad(x=images(2), y=images(2)), "holds x, y"),
        (bad(x=np.array([{}], dtype=object)), "cannot be read"),
    ],
)
def test_what_is_wrong_is_said(tmp_path: Path, arrays: dict[str, Any], words: str) -> None:
    np.savez(tmp_path / "p.npz", **arrays)
    with pytest.raises(UsageError) as wrong:
        read(tmp_path / "p.npz", SHAPES)
    assert words in str(wrong.value)


def test_files_that_hold_no_arrays(tmp_path: Path) -> None:
    (tmp_path / "p.npz").write_text("no archive")
    for path, words in ((tmp_path / "p.npz", "cannot be read"), (tmp_path / "none.npz", "No such file")):
        with pytest.raises(UsageError, match=words):
            read(path, SHAPES)
    with pytest.raises(UsageError, match=r"no pictures or \.npy files"):
        read(tmp_path, SHAPES)
    with pytest.raises(UsageError, match="2 inputs"):
        read(tmp_path, {"a": (1,), "b": (1,)})
    np.savez(tmp_path / "two.npz", a=np.zeros((2, 1), np.float32), b=np.zeros((3, 1), np.float32))
    with pytest.raises(UsageError, match=r"\[2, 3\] samples"):
        read(tmp_path / "two.npz", {"a": (1,), "b": (1,)})


def test_an_export_checks_them_besides_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ulsam_deploy.cli import main

    monkeypatch.setenv("ULSAM_DEPLOY_CACHE", str(tmp_path / "cache"))
    model = tmp_path / "m.pt"
    assert main(f"new mobilenet_v1 --insert 5 --width 0.25 --classes 4 --input 3x32x32 -o {model}".split()) == 0
    np.savez(tmp_path / "p.npz", x=np.ones((2, 3, 32, 32), np.float32))
    options = ExportOptions(model, targets=("onnx",), output=tmp_path / "m.bundle", probes=tmp_path / "p.npz")
    before = network_stages(options, Progress(quiet=True))
    assert before.inputs().names[-2:] == ("yours-0", "yours-1")
    np.savez(tmp_path / "p.npz", x=np.zeros((2, 3, 32, 32), np.float32))
    assert network_stages(options, Progress(quiet=True)).key != before.key
