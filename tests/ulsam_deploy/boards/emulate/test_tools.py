"""What is missing on the host is said in words, with exit 4, before anything is made."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

import ulsam_deploy as ud
from ulsam_deploy.boards.emulate import sysroot, tools
from ulsam_deploy.boards.emulate.machine import profile_of
from ulsam_deploy.cli import main
from ulsam_deploy.device.errors import UnavailableError, UsageError

from ...handmade import make_bundle


@pytest.mark.parametrize(("words", "done"), [(["verify"], "emulating"), (["bench", "--count"], "emulating")])
def test_without_qemu_it_is_exit_4_and_says_what_to_install(
    words: list[str], done: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = make_bundle(tmp_path / "dense.bundle", targets=("onnx",)).root
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("ULSAM_DEPLOY_CACHE", str(tmp_path / "cache"))
    assert main([words[0], str(bundle), *words[1:], "--device", "rpi4"]) == 4
    said = capsys.readouterr().err
    assert "'qemu-aarch64' isn't installed here" in said
    assert "apt-get install qemu-user" in said
    assert done in said
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["verify", "B", "--device", "rpi9"], 2, "no device profile is called 'rpi9'"),
        (["verify", "B", "--device", "x86-64"], 4, "can't be emulated"),
        (["verify", "B", "--device", "rpi4", "--target", "openvino"], 2, "no artifact for 'openvino'"),
        (["verify", "B", "--device", "rpi4", "--against", "m.pt"], 2, "--device is for bundles"),
        (["bench", "B", "--count", "--device", "jetson-orin-jp6"], 4, "can't be emulated"),
    ],
)
def test_wrong_words(
    words: list[str], code: int, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = make_bundle(tmp_path / "dense.bundle", targets=("onnx",)).root
    assert main([str(bundle) if word == "B" else word for word in words]) == code
    assert said in capsys.readouterr().err


def test_from_python_a_device_is_named_likewise(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "dense.bundle", targets=("onnx",))
    with pytest.raises(UsageError, match="no device profile is called 'rpi9'"):
        ud.verify(bundle, device="rpi9")


def test_a_damaged_bundle_is_refused_before_qemu_is_looked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = make_bundle(tmp_path / "dense.bundle", targets=("onnx",)).root
    (bundle / "onnx" / "model.onnx").write_bytes(b"other")
    monkeypatch.setenv("PATH", str(tmp_path))
    for words in (["verify"], ["bench", "--count"]):
        assert main([words[0], str(bundle), *words[1:], "--device", "rpi4"]) == 6
        assert "model.onnx" in capsys.readouterr().err


def test_a_host_of_another_release_is_told_which_ones_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tools, "codename", lambda: "noble")
    with pytest.raises(UnavailableError, match="has none for 'noble'") as error:
        sysroot.release_for(profile_of("rpi4"), "rpi4")
    assert error.value.expected == "bookworm, trixie"


def test_code_name_of_a_distribution(tmp_path: Path) -> None:
    (tmp_path / "os-release").write_text('NAME="Debian"\nVERSION_CODENAME="bookworm"\n')
    assert tools.codename(tmp_path / "os-release") == "bookworm"
    assert tools.codename(tmp_path / "absent") == ""


def test_a_program_that_fails_is_quoted_by_its_own_last_error(tmp_path: Path) -> None:
    program = tmp_path / "apt"
    program.write_text("#!/bin/sh\necho 'W: old' >&2\necho 'E: no such package' >&2\necho 'bye' >&2\nexit 100\n")
    program.chmod(0o755)
    with pytest.raises(UnavailableError, match=r"fetching failed: E: no such package") as error:
        tools.fetch([program], "fetching", "connect")
    assert error.value.todo == "connect"


def test_a_folder_that_others_can_write_to_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ULSAM_DEPLOY_CACHE", str(tmp_path))
    (tmp_path / ".sysroots").mkdir()
    (tmp_path / ".sysroots").chmod(0o777)
    with pytest.raises(UsageError, match="other users can write"):
        sysroot._home()


def test_libraries_in_folders_of_their_own_are_linked(tmp_path: Path) -> None:
    (tmp_path / "blas").mkdir()
    (tmp_path / "blas" / "libblas.so.3").write_text("blas")
    (tmp_path / "blas" / "plugin.so").write_text("none")
    sysroot._choose_alternatives(tmp_path)
    assert (tmp_path / "libblas.so.3").read_text() == "blas"
    assert not (tmp_path / "plugin.so").exists()
    sysroot._choose_alternatives(tmp_path)  # what is there stays


def test_wheels_that_the_boards_kernel_cannot_map_are_refused(tmp_path: Path) -> None:
    from .test_elf import small_elf

    (tmp_path / "site").mkdir()
    small_elf(tmp_path / "site" / "lib.so", True, 4096)
    made = sysroot.Sysroot(tmp_path / "root", tmp_path / "site", tmp_path / "pycache")
    sysroot._check_pages(made, profile_of("rpi4"), "rpi4")  # pages of 4 KiB
    with pytest.raises(UnavailableError, match=r"lib\.so can't be loaded on rpi5"):
        sysroot._check_pages(made, dataclasses.replace(profile_of("rpi4"), page_kib=16), "rpi5")


def test_cache_clears_the_boards_software_but_not_under_a_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ULSAM_DEPLOY_CACHE", str(tmp_path))
    root = tmp_path / ".sysroots" / "bookworm" / "root"
    root.mkdir(parents=True)
    (root / "file").write_bytes(bytes(2000))
    with sysroot.in_use(sysroot.Sysroot(root, root, root)):
        assert main(["cache", "--clear"]) == 0
        assert (root / "file").is_file()
        assert "software of emulated boards: 1, 2.0 kB" in capsys.readouterr().out
    assert main(["cache", "--clear"]) == 0
    assert "removed 1 entries, 2.0 kB" in capsys.readouterr().out
    assert not root.parent.exists()
