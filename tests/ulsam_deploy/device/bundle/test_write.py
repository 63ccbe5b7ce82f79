"""Writing: whole or absent, never in the way of what isn't ours, and the same bytes each time."""

from __future__ import annotations

import errno
import gc
import os
import subprocess
import sys
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from ulsam_deploy.device import files
from ulsam_deploy.device.bundle import MANIFEST, Bundle, BundleWriter, check_writable, pack, read_bundle, unpack
from ulsam_deploy.device.errors import ExportError, UsageError

Write = Callable[..., Bundle]
HERE = Path(__file__).parent


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_bundle_is_read_as_it_was_written(bundle: Bundle) -> None:
    again = read_bundle(bundle.root)
    again.verify_integrity()
    assert again == bundle
    assert names(bundle.root.parent) == ["model.bundle"]
    record = again.artifact("openvino", "fp32")
    assert [path.name for path in again.files(record)] == ["model.xml", "model.bin"]
    assert again.golden is not None
    assert again.golden.read_bytes() == b"goldenweights"
    with pytest.raises(UsageError, match="no artifact for 'openvino int8'"):
        again.artifact("openvino", "int8")


def test_the_folder_has_the_permissions_that_the_user_chose(write_bundle: Write, tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        assert write_bundle(tmp_path / "model.bundle").root.stat().st_mode & 0o777 == 0o750
    finally:
        os.umask(before)


@pytest.mark.parametrize("exchange", [True, False])
def test_a_new_bundle_replaces_an_old_one(
    write_bundle: Write, tmp_path: Path, exchange: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not exchange:
        monkeypatch.setattr(files, "_exchange", lambda one, other: False)
    for payload in (b"one", b"two"):
        bundle = write_bundle(tmp_path / "model.bundle", payload)
    bundle.verify_integrity()
    assert (bundle.root / "golden.npz").read_bytes() == b"goldentwo"
    assert names(tmp_path) == ["model.bundle"]


def test_missing_parents_are_made_and_an_empty_folder_is_used(write_bundle: Write, tmp_path: Path) -> None:
    (tmp_path / "a" / "b" / "model.bundle").mkdir(parents=True)
    write_bundle(tmp_path / "a" / "b" / "model.bundle").verify_integrity()
    write_bundle(tmp_path / "c" / "d" / "model.bundle").verify_integrity()


def test_a_link_to_a_bundle_stays_a_link(write_bundle: Write, tmp_path: Path) -> None:
    write_bundle(tmp_path / "real.bundle", b"one")
    (tmp_path / "link").symlink_to("real.bundle")
    write_bundle(tmp_path / "link", b"two")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real.bundle" / "golden.npz").read_bytes() == b"goldentwo"


def test_what_is_not_a_bundle_is_never_replaced(write_bundle: Write, tmp_path: Path) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter1.tex").write_text("years of work")
    with pytest.raises(UsageError, match=r"thesis isn't a bundle: .* has no manifest\.json"):
        write_bundle(tmp_path / "thesis")
    (tmp_path / "thesis" / MANIFEST).write_text("{}")
    with pytest.raises(UsageError, match="thesis isn't a bundle"):
        write_bundle(tmp_path / "thesis")
    assert names(tmp_path / "thesis") == ["chapter1.tex", MANIFEST]
    with pytest.raises(UsageError, match=r"chapter1\.tex is a file"):
        check_writable(tmp_path / "thesis" / "chapter1.tex")
    assert names(tmp_path) == ["thesis"]


def test_a_bundle_with_the_users_own_files_in_it_is_not_replaced(write_bundle: Write, bundle: Bundle) -> None:
    (bundle.root / "onnx" / "notes.txt").write_text("mine")
    with pytest.raises(UsageError, match=r"holds 'onnx/notes\.txt', which isn't part"):
        write_bundle(bundle.root, b"new")


@pytest.mark.parametrize("exchange", [True, False])
def test_a_file_that_turns_up_while_we_work_is_kept(
    bundle: Bundle, exchange: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not exchange:
        monkeypatch.setattr(files, "_exchange", lambda one, other: False)
    with pytest.raises(UsageError, match="notes"), BundleWriter(bundle.root) as writer:  # noqa: PT012
        (bundle.root / "notes").write_text("mine")
        writer.commit(replace(bundle.manifest, artifacts=(), golden=None, extras=()))
    assert (bundle.root / "notes").read_text() == "mine"
    assert names(bundle.root.parent) == ["model.bundle"]


def test_a_damaged_old_bundle_can_be_replaced(write_bundle: Write, bundle: Bundle) -> None:
    (bundle.root / "golden.npz").unlink()
    (bundle.root / "report.html").write_bytes(b"altered")
    write_bundle(bundle.root, b"new").verify_integrity()


@pytest.mark.parametrize("error", [RuntimeError("converter crashed"), KeyboardInterrupt(), SystemExit(3)])
def test_any_exception_leaves_the_old_bundle_and_no_litter(bundle: Bundle, error: BaseException) -> None:
    with pytest.raises(type(error)), BundleWriter(bundle.root) as writer:  # noqa: PT012
        (writer.folder / "half").write_bytes(b"x")
        raise error
    bundle.verify_integrity()
    assert names(bundle.root.parent) == ["model.bundle"]


def test_leaving_without_commit_leaves_nothing(tmp_path: Path) -> None:
    with BundleWriter(tmp_path / "model.bundle") as writer:
        (writer.folder / "half").write_bytes(b"x")
    assert names(tmp_path) == []


def test_a_full_disk_inside_the_block_is_told_in_words(bundle: Bundle) -> None:
    with pytest.raises(ExportError, match="No space left"), BundleWriter(bundle.root):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    with pytest.raises(FileNotFoundError), BundleWriter(bundle.root):  # not the disk's fault: not disguised as one
        raise FileNotFoundError
    bundle.verify_integrity()


def test_a_manifest_that_does_not_fit_the_folder_is_not_committed(bundle: Bundle) -> None:
    stray = pytest.raises(ExportError, match=r"isn't sound: 'stray' is in the bundle")
    with stray, BundleWriter(bundle.root) as writer:
        (writer.folder / "stray").touch()
        writer.commit(replace(bundle.manifest, artifacts=(), golden=None, extras=()))
    with pytest.raises(ExportError, match="is missing"), BundleWriter(bundle.root) as writer:
        writer.commit(bundle.manifest)
    bundle.verify_integrity()


def test_a_place_that_cannot_be_written_to_is_told_before_any_work() -> None:
    # /proc refuses new files to everybody, root included, which permission bits would not.
    with pytest.raises(UsageError, match="can't be written to") as caught:
        check_writable(Path("/proc/somewhere/model.bundle"))
    assert "--output" in str(caught.value)


def test_litter_of_the_dead_is_swept_and_work_of_the_living_is_not(write_bundle: Write, tmp_path: Path) -> None:
    dead = tmp_path / ".model.bundle.partial-1-00000000"
    dead.mkdir()
    (dead / "big").write_bytes(b"x")
    aside = tmp_path / ".other.bundle.old-1-00000000"
    aside.mkdir()
    with BundleWriter(tmp_path / "model.bundle") as living:
        assert not dead.exists()
        write_bundle(tmp_path / "model.bundle", b"meanwhile")
        assert living.folder.exists()
    assert names(tmp_path) == [aside.name, "model.bundle"]  # another target's folder is none of our business


def test_a_bundle_set_aside_by_a_dead_run_is_put_back(bundle: Bundle) -> None:
    bundle.root.rename(bundle.root.with_name(".model.bundle.old-1-00000000"))
    with BundleWriter(bundle.root):
        bundle.verify_integrity()
    assert names(bundle.root.parent) == ["model.bundle"]


@pytest.mark.parametrize("how", ["exchange", "two-steps"])
def test_many_writers_at_once_leave_one_whole_bundle(tmp_path: Path, how: str) -> None:
    code = (
        "import sys; from pathlib import Path; from conftest import make_bundle\n"
        "from ulsam_deploy.device import files as staging\n"
        "if sys.argv[3] == 'two-steps': staging._exchange = lambda one, other: False\n"
        "for number in range(15): make_bundle(Path(sys.argv[1]), f'{sys.argv[2]}-{number}'.encode() * 500)"
    )
    target = tmp_path / "model.bundle"
    writers = [
        subprocess.Popen([sys.executable, "-c", code, str(target), str(number), how], cwd=HERE, stderr=subprocess.PIPE)
        for number in range(4)
    ]
    assert [writer.communicate(timeout=120)[1] for writer in writers] == [b""] * 4
    read_bundle(target).verify_integrity()
    assert names(tmp_path) == ["model.bundle"]


def test_an_archive_has_the_same_bytes_wherever_and_whenever_it_is_made(write_bundle: Write, tmp_path: Path) -> None:
    one, two = write_bundle(tmp_path / "one" / "a.bundle"), write_bundle(tmp_path / "two" / "b.bundle")
    os.utime(two.root / "golden.npz", (0, 0))
    (two.root / "golden.npz").chmod(0o600)
    first, second = pack(one, tmp_path / "1.zip"), pack(two, tmp_path / "2.zip")
    assert first.read_bytes() == second.read_bytes()


def test_an_archive_unpacks_to_the_same_bundle(bundle: Bundle, tmp_path: Path) -> None:
    path = pack(bundle, tmp_path / "model.zip")
    out = unpack(path, tmp_path / "out.bundle")
    out.verify_integrity()
    for file in bundle.root.rglob("*"):
        if file.is_file():
            assert (out.root / file.relative_to(bundle.root)).read_bytes() == file.read_bytes()
    assert names(tmp_path) == ["model.bundle", "model.zip", "out.bundle"]


def test_a_bundle_read_from_an_archive_lives_as_long_as_it_is_used(bundle: Bundle, tmp_path: Path) -> None:
    opened = read_bundle(pack(bundle, tmp_path / "model.zip"))
    root = opened.root
    opened.verify_integrity()
    del opened
    gc.collect()
    assert not root.exists()


def test_pack_does_not_overwrite_what_is_no_archive(bundle: Bundle, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(UsageError, match=r"isn't a packed bundle that ulsam-deploy wrote"):
        pack(bundle, tmp_path / "notes.txt")
    with pytest.raises(UsageError, match="inside the bundle"):
        pack(bundle, bundle.root / "model.zip")
    with pytest.raises(UsageError, match=r"the folder of .* does not exist"):
        pack(bundle, tmp_path / "missing" / "model.zip")
    with zipfile.ZipFile(tmp_path / "photos.zip", "w") as photos:
        photos.writestr("manifest.json", '{"schema": "somebody.else/1"}')
    with pytest.raises(UsageError, match="photos"):
        pack(bundle, tmp_path / "photos.zip")
    assert (
        pack(bundle, tmp_path / "photos.zip", force=True).read_bytes() == pack(bundle, tmp_path / "2.zip").read_bytes()
    )
    assert pack(bundle, tmp_path / "model.zip") == pack(bundle, tmp_path / "model.zip")
