"""Files that are only data: regular ones of bounded size, and nothing that never ends."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from ulsam_deploy.device import toml
from ulsam_deploy.device.data_files import contents, opened
from ulsam_deploy.device.errors import UsageError
from ulsam_deploy.device.npz import UnsoundArraysError, read_array, read_arrays

from ...hostile import data_files

ENDLESS: dict[str, Callable[[Path], object]] = {
    "pipe": lambda path: os.mkfifo(path),
    "link to a device": lambda path: path.symlink_to("/dev/zero"),
    "folder": lambda path: path.mkdir(),
    "link to itself": lambda path: path.symlink_to(path),
    "nothing": lambda path: None,
}


@pytest.mark.timeout(20)
@pytest.mark.parametrize("name", ENDLESS)
def test_what_never_ends_is_refused_and_not_waited_for(tmp_path: Path, name: str) -> None:
    path = tmp_path / "x"
    ENDLESS[name](path)
    with pytest.raises(OSError, match="x"):
        opened(path)
    for read in (read_arrays, read_array):
        with pytest.raises(UnsoundArraysError):
            read(path)
    with pytest.raises(UsageError):
        toml.read(path)


def test_a_size_is_looked_at_before_the_bytes(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"abcd")
    assert contents(path, 4) == b"abcd"
    with pytest.raises(OSError, match="more than 3 bytes"):
        contents(path, 3)
    os.truncate(path, 1 << 40)
    with pytest.raises(OSError, match="more than"):
        contents(path, 1 << 30)


@pytest.mark.timeout(20)
@pytest.mark.parametrize(
    ("text", "why"),
    [
        (f"a = 0x{'f' * 100_000}", "more than 64 bits"),  # Python refuses to print it
        (f"a = [{{b = {1 << 63}}}]", "more than 64 bits"),
        (f"a = -{(1 << 63) + 1}", "more than 64 bits"),
        (f"a = {'9' * 5000}", "isn't valid TOML"),
        (f"a{'.a' * 100_000} = 1", "more than 64 parts"),  # which would take hours
        ("[a" + ' . "b"' * 100_000 + "]", "more than 64 parts"),
        (f"a = {'[' * 100_000}", "isn't valid TOML"),
    ],
    ids=["hexadecimal", "inside", "negative", "decimal", "dots", "a table", "brackets"],
)
def test_toml_that_a_parser_takes_too_far(text: str, why: str) -> None:
    with pytest.raises(UsageError, match=why):
        toml.parse(text, "x.toml")


def test_toml_up_to_its_limits_is_read() -> None:
    text = (
        f"a = {(1 << 63) - 1}\nb = -{1 << 63}\nc = [{'1.5, ' * 2000}]\nd = '{'x.' * 40}'\n{'.'.join('e' * 64)} = true\n"
    )
    found = toml.parse(text, "x.toml")
    assert (found["a"], found["b"], len(found["c"])) == ((1 << 63) - 1, -(1 << 63), 2000)


def test_a_name_with_a_nul_is_no_name() -> None:
    with pytest.raises(OSError, match="null"):
        opened(Path("a\0b"))


@pytest.mark.parametrize("name", [name for name in data_files.ARRAYS if "GiB" not in name])
def test_arrays_that_lie_are_read_or_refused_in_words(tmp_path: Path, name: str) -> None:
    (tmp_path / "x.npz").write_bytes(data_files.ARRAYS[name]())
    with contextlib.suppress(UnsoundArraysError):
        read_arrays(tmp_path / "x.npz")


def test_a_link_to_a_file_is_followed(tmp_path: Path) -> None:
    np.savez(tmp_path / "real.npz", x=np.arange(3))
    (tmp_path / "x.npz").symlink_to("real.npz")
    assert read_arrays(tmp_path / "x.npz")["x"].tolist() == [0, 1, 2]
