"""Bundles that a stranger made: each is refused with exit 6 and a sentence, and nothing is written outside."""

from __future__ import annotations

import json
import os
import random
import shutil
import stat
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ulsam_deploy.device.bundle import MANIFEST, Bundle, pack, read_bundle, unpack
from ulsam_deploy.device.errors import RefusedError, UlsamError, UsageError


def edit(root: Path, change: Callable[[dict[str, Any]], object]) -> None:
    plain = json.loads((root / MANIFEST).read_text())
    change(plain)
    (root / MANIFEST).write_text(json.dumps(plain))


def swap_for_link(path: Path) -> None:
    elsewhere = path.parents[2] / "elsewhere"
    shutil.move(path, elsewhere)
    path.symlink_to(elsewhere)


def swap_for_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def swap_for_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


FOLDERS: dict[str, tuple[Callable[[Path], object], str]] = {
    "extra file": (lambda root: (root / "onnx/evil.so").write_bytes(b"x"), "'onnx/evil.so' is in the bundle but not"),
    "extra empty folder": (lambda root: (root / "more").mkdir(), "'more' is in the bundle but not"),
    "extra hidden file": (lambda root: (root / ".x").touch(), "'.x' is in the bundle but not"),
    "missing file": (lambda root: (root / "openvino/model.bin").unlink(), "'openvino/model.bin' is missing"),
    "missing folder": (lambda root: shutil.rmtree(root / "onnx"), "'onnx/model.onnx' is missing"),
    "longer": (lambda root: (root / "golden.npz").write_bytes(b"goldenweights!"), "'golden.npz' has 14 bytes"),
    "empty": (lambda root: (root / "golden.npz").write_bytes(b""), "'golden.npz' has 0 bytes"),
    "one bit": (lambda root: (root / "golden.npz").write_bytes(b"goldenweighus"), "'golden.npz' has SHA-256"),
    "link to a file": (lambda root: swap_for_link(root / "onnx/model.onnx"), "'onnx/model.onnx' is a link"),
    "link to a folder": (lambda root: swap_for_link(root / "onnx"), "'onnx' is in the bundle but not"),
    "pipe": (lambda root: swap_for_pipe(root / "golden.npz"), "'golden.npz' is a link, a folder or a special"),
    "folder for a file": (lambda root: swap_for_folder(root / "golden.npz"), "is a link, a"),
    "manifest is a link": (lambda root: swap_for_link(root / "x" / ".." / MANIFEST), "is a link or a special file"),
    "manifest is a pipe": (lambda root: swap_for_pipe(root / MANIFEST), "is a link or a special file"),
    "manifest is huge": (lambda root: os.truncate(root / MANIFEST, 17 << 20), "is larger than"),
    "manifest is cut": (lambda root: os.truncate(root / MANIFEST, 500), "isn't valid JSON"),
    "unknown key": (lambda root: edit(root, lambda m: m.update(modle={})), "unknown key 'modle'"),
    "wrong type": (lambda root: edit(root, lambda m: m.update(artifacts="all")), "$.artifacts: 'all' has the wrong"),
    "absolute": (lambda root: edit(root, lambda m: m["golden"].update(path="/etc/passwd")), "$.golden.path"),
    "traversal": (lambda root: edit(root, lambda m: m["golden"].update(path="../golden.npz")), "$.golden.path"),
    "listed twice": (lambda root: edit(root, lambda m: m["extras"].append(m["golden"])), "listed twice"),
    "not listed": (lambda root: edit(root, lambda m: m.update(golden=None)), "'golden.npz' is in the bundle but not"),
}  # fmt: skip


@pytest.mark.parametrize("name", FOLDERS)
def test_a_spoiled_folder_is_refused(bundle: Bundle, name: str) -> None:
    spoil, words = FOLDERS[name]
    if name == "manifest is a link":
        (bundle.root / "x").mkdir()
    spoil(bundle.root)
    with pytest.raises(RefusedError) as caught:
        read_bundle(bundle.root).verify_integrity()
    assert words in str(caught.value)
    assert caught.value.exit_code == 6


def stored(name: str, mode: int = stat.S_IFREG | 0o644) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name)
    entry.external_attr = mode << 16
    return entry


def repack(path: Path, change: Callable[[list[tuple[zipfile.ZipInfo, bytes]]], object]) -> None:
    with zipfile.ZipFile(path) as archive:
        entries = [(entry, archive.read(entry)) for entry in archive.infolist()]
    change(entries)
    with zipfile.ZipFile(path, "w") as archive:
        for entry, data in entries:
            archive.writestr(entry, data, compress_type=entry.compress_type)


def compress(entries: list[tuple[zipfile.ZipInfo, bytes]]) -> None:
    entries[1][0].compress_type = zipfile.ZIP_DEFLATED


ARCHIVES: dict[str, tuple[Callable[[list[tuple[zipfile.ZipInfo, bytes]]], object], str]] = {
    "extra": (lambda e: e.append((stored("evil.so"), b"x")), "'evil.so' is in the archive but not"),
    "missing": (lambda e: e.pop(), "is in the manifest but not in the archive"),
    "traversal": (lambda e: e.append((stored("../evil"), b"x")), "'../evil' is in the archive but not"),
    "absolute": (lambda e: e.append((stored("/tmp/evil"), b"x")), "'/tmp/evil' is in the archive but not"),
    "link": (lambda e: e.append((stored("evil", stat.S_IFLNK | 0o777), b"/etc")), "'evil' is a link, a folder"),
    "member as link": (lambda e: setattr(e[1][0], "external_attr", (stat.S_IFLNK | 0o777) << 16), "is a link, a"),
    "device": (lambda e: e.append((stored("evil", stat.S_IFCHR), b"")), "'evil' is a link, a folder"),
    "folder": (lambda e: e.append((stored("onnx/"), b"")), "'onnx/' is a link, a folder"),
    "compressed": (compress, "is compressed or encrypted"),
    "wrong bytes": (lambda e: e.append((e[-1][0], b"y" * len(e.pop()[1]))), "has SHA-256"),
    "no manifest": (lambda e: e.pop(0), "holds no manifest.json"),
    "empty": (lambda e: e.clear(), "holds no manifest.json"),
}  # fmt: skip


@pytest.mark.parametrize("name", ARCHIVES)
def test_a_spoiled_archive_is_refused_and_leaves_nothing(bundle: Bundle, tmp_path: Path, name: str) -> None:
    change, words = ARCHIVES[name]
    path = pack(bundle, tmp_path / "model.zip")
    repack(path, change)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(RefusedError) as caught:
        unpack(path, tmp_path / "out" / "model.bundle")
    assert words in str(caught.value)
    (tmp_path / "out").rmdir()  # which works on an empty folder only
    assert sorted(tmp_path.rglob("*")) == before


def test_a_repeated_entry_is_refused(bundle: Bundle, tmp_path: Path) -> None:
    path = pack(bundle, tmp_path / "model.zip")
    with zipfile.ZipFile(path, "a") as archive, pytest.warns(UserWarning, match="Duplicate name"):
        archive.writestr(stored("golden.npz"), b"other")
    with pytest.raises(RefusedError, match=r"'golden\.npz' is there twice"):
        read_bundle(path)


def test_entries_that_share_their_bytes_cannot_outgrow_the_archive(bundle: Bundle, tmp_path: Path) -> None:
    path = pack(bundle, tmp_path / "model.zip")
    data = bytearray(path.read_bytes())
    entry = data.rindex(b"PK\x01\x02")  # a line of the central directory: declare two sizes of 2 GiB
    data[entry + 20 : entry + 28] = (2**31).to_bytes(4, "little") * 2
    path.write_bytes(data)
    with pytest.raises(RefusedError, match="declares more bytes than it has"):
        read_bundle(path)


def test_a_damaged_archive_is_refused_wherever_the_damage_is(bundle: Bundle, tmp_path: Path) -> None:
    path = pack(bundle, tmp_path / "model.zip")
    sound, chance, refused = path.read_bytes(), random.Random(0), 0
    for number in range(400):
        data = bytearray(sound)
        if number % 2:
            del data[chance.randrange(len(data)) :]
        # The directory at the end is where a reader can be led astray: half of the flips go there.
        first = sound.index(b"PK\x01\x02") if number % 4 else 0
        for _ in range(chance.randint(1, 3)):
            if len(data) > first:
                data[chance.randrange(first, len(data))] ^= 1 << chance.randrange(8)
        path.write_bytes(data)
        try:
            found = read_bundle(path)
        except UlsamError as error:
            assert error.exit_code == 6, error  # noqa: PT017
            refused += 1
        else:  # a flip in a date or a permission bit harms nobody: what was unpacked is whole
            found.verify_integrity()
            assert found.manifest == bundle.manifest
    assert refused > 200


def test_what_is_no_bundle_at_all_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is no bundle"):
        read_bundle(tmp_path / "nothing")
    with pytest.raises(UsageError, match=r"has no manifest\.json"):
        read_bundle(tmp_path)
