"""One reader and writer of arrays: a stranger's file is refused in a line where need be, and names are only names."""

from __future__ import annotations

import io
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
from numpy.lib import format as npy

from ulsam_deploy.device import npz
from ulsam_deploy.device.npz import ArrayFile, UnsoundArraysError, read_array, read_arrays, write_arrays


def packed(array: np.ndarray, *, shape: tuple[int, ...] | None = None) -> bytes:
    """An ``.npy``, which announces ``shape`` instead of its own where one is given."""
    stream = io.BytesIO()
    header = {"descr": npy.dtype_to_descr(array.dtype), "fortran_order": False, "shape": shape or array.shape}
    npy.write_array_header_1_0(stream, header)
    return stream.getvalue() + (pickle.dumps(array) if array.dtype.hasobject else array.tobytes())


def archive(path: Path, *members: tuple[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as file:
        for name, content in members:
            file.writestr(name, content)
    return path


ONE = packed(np.arange(3.0))


@pytest.mark.parametrize("compressed", [False, True])
def test_whatever_arrays_are_called_they_come_back(tmp_path: Path, compressed: bool) -> None:
    """``numpy.savez`` takes some of these names for arguments of its own."""
    given = {
        name: np.full((2, 3), i, np.float16) for i, name in enumerate(["file", "args", "allow_pickle", "a/b", "ü"])
    }
    given["none"] = np.zeros((0, 4), np.int8)
    given["fortran"] = np.asfortranarray(np.arange(6).reshape(2, 3))
    write_arrays(tmp_path / "a.npz", given, compressed=compressed)
    found = read_arrays(tmp_path / "a.npz")
    assert list(found) == list(given)
    for name, array in given.items():
        np.testing.assert_array_equal(found[name], array)
        assert found[name].flags.writeable
    write_arrays(tmp_path / "b.npz", given, compressed=compressed)
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()


@pytest.mark.parametrize(
    ("members", "said"),
    [
        ([("x.npy", packed(np.array([{}], object)))], "Python objects"),
        ([("x.npy", packed(np.zeros(3), shape=(2**50,)))], "announces"),
        ([("x.npy", packed(np.zeros(3), shape=(2,)))], "announces"),
        ([("x.npy", packed(np.zeros(3), shape=(-3, -1)))], "announces"),
        ([("x.npy", b"no array")], "does not begin as"),
        ([("x.npy", b"")], "does not begin as"),
        ([("x.npy", ONE[:20])], "EOF"),
        ([("x.npy", ONE), ("readme\x1b.txt", b"words")], r"'readme\x1b.txt' is no array"),
    ],
)
def test_what_is_no_plain_array_is_refused_in_a_line(
    tmp_path: Path, members: list[tuple[str, bytes]], said: str
) -> None:
    with pytest.raises(UnsoundArraysError) as error:
        read_arrays(archive(tmp_path / "x.npz", *members))
    assert said in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_an_array_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnsoundArraysError, match="there twice"):
        read_arrays(archive(tmp_path / "x.npz", ("x.npy", ONE), ("x.npy", ONE)))


def test_a_bomb_is_refused_and_a_large_file_of_the_user_is_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_arrays(tmp_path / "bomb.npz", {"x": np.zeros(100_000)}, compressed=True)
    write_arrays(tmp_path / "large.npz", {"x": np.zeros(100_000)})
    np.save(tmp_path / "large.npy", np.zeros(100_000))
    monkeypatch.setattr(npz, "MAX_BYTES", 1000)
    for own in (False, True):
        with pytest.raises(UnsoundArraysError, match="more than"):
            read_arrays(tmp_path / "bomb.npz", own=own)
    for read in (read_arrays, read_array):
        path = tmp_path / ("large.npz" if read is read_arrays else "large.npy")
        assert read(path, own=True) is not None
        with pytest.raises(UnsoundArraysError, match="more than 1000"):
            read(path)


@pytest.mark.parametrize(
    "content", [packed(np.zeros(3), shape=(2**50,)), packed(np.array([{}], object)), b"", b"PK\3\4"]
)
def test_a_hostile_npy_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.npy").write_bytes(content)
    with pytest.raises(UnsoundArraysError):
        read_array(tmp_path / "x.npy")
    with pytest.raises(UnsoundArraysError, match="No such file"):
        read_array(tmp_path / "none.npy")


def test_rows_come_one_after_the_other_and_end_in_words(tmp_path: Path) -> None:
    write_arrays(tmp_path / "x.npz", {"x": np.arange(12).reshape(6, 2)}, compressed=True)
    with ArrayFile(tmp_path / "x.npz") as file:
        rows = file.rows("x")
        assert rows.shape == (6, 2)
        assert [rows.read(n).tolist() for n in (1, 2)] == [[[0, 1]], [[2, 3], [4, 5]]]
        with pytest.raises(UnsoundArraysError, match="ends too early"):
            rows.read(4)
        with pytest.raises(UnsoundArraysError):
            file.read("y")


def test_nothing_else_reads_or_writes_arrays() -> None:
    """A second reader would have limits of its own; the line of a script that is written for a user is text."""
    root = Path(npz.__file__).parents[2]
    places = (
        path for room in ("ulsam_deploy", "exporters", "runtimes", "models") for path in (root / room).rglob("*.py")
    )
    words = ("np.load(", "np.save", "numpy.load(")
    found = {path.name for path in places if any(word in path.read_text() for word in words)}
    assert found == {"reproduction.py"}
