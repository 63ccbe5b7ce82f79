"""What is missing on the host is said in words, with exit 4, before anything is made."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import pytest

import ulsam_deploy as ud
from ulsam_deploy.boards.emulate import available, sysroot, tools
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


OS_RELEASE = {
    "debian 12": 'ID=debian\nVERSION_ID="12"\nVERSION_CODENAME=bookworm\n',
    "debian 13": 'ID=debian\nVERSION_ID="13"\nVERSION_CODENAME=trixie\n',
    "ubuntu 22.04": 'ID=ubuntu\nID_LIKE=debian\nVERSION_ID="22.04"\nVERSION_CODENAME=jammy\n',
    "ubuntu 24.04": 'ID=ubuntu\nID_LIKE=debian\nVERSION_ID="24.04"\nVERSION_CODENAME=noble\n',
}
ASK = (
    "from ulsam_deploy.boards.emulate.available import verifying\n"
    "print(open('/etc/os-release').read().split('VERSION_CODENAME=')[1].strip(), verifying('rpi4'))"
)


def programs(folder: Path, monkeypatch: pytest.MonkeyPatch, models: str = "cortex-a53 cortex-a72 cortex-a76") -> None:
    """What emulation needs, as programs that only say their version and the processors they know."""
    for name in ("qemu-aarch64", "apt-get", "dpkg-deb"):
        (folder / name).write_text(f"#!/bin/sh\necho 'version 8.2'; echo '{models}'\n")
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("ULSAM_DEPLOY_CACHE", str(folder / "cache"))


@pytest.mark.parametrize("host", OS_RELEASE)
def test_a_host_of_any_release_emulates_the_board_with_the_board_s_own(
    host: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    programs(tmp_path, monkeypatch)
    (tmp_path / "os-release").write_text(OS_RELEASE[host])
    inside = f'mount --bind {tmp_path}/os-release /etc/os-release && exec "$@"'
    apart = ["unshare", "--map-root-user", "--mount", "sh", "-c", inside, "sh"]
    if subprocess.run([*apart, "true"], capture_output=True).returncode:
        pytest.skip("this machine allows no mounts of its own: unshare --map-root-user --mount")
    done = subprocess.run([*apart, sys.executable, "-c", ASK], capture_output=True, text=True)
    assert done.stdout.startswith(OS_RELEASE[host].split("CODENAME=")[1].strip()), done.stderr
    assert "usable=True" in done.stdout
    assert "bookworm: software is fetched on first use" in done.stdout


def test_a_qemu_without_the_processor_is_told_with_the_container_that_has_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    programs(tmp_path, monkeypatch, "cortex-a53 cortex-a72")  # those of qemu 6.2, which Ubuntu 22.04 has
    assert available.verifying("rpi4").usable
    found = available.verifying("rpi5")
    assert not found.usable
    assert "no model of the cortex-a76" in found.detail
    assert found.todo.startswith("docker run")
    assert found.todo.endswith("verify BUNDLE --device rpi5")


def test_a_profile_chooses_among_the_releases_that_it_describes() -> None:
    profile = profile_of("rpi4")
    assert sysroot.release_for(profile, "rpi4")[0] == "bookworm"
    later = dataclasses.replace(profile, release="trixie")
    assert sysroot.release_for(later, "rpi4") == ("trixie", profile.releases["trixie"])
    with pytest.raises(UsageError, match="the profile's release is 'noble'") as error:
        sysroot.release_for(dataclasses.replace(profile, release="noble"), "rpi4")
    assert error.value.expected.endswith("bookworm, trixie")


@pytest.mark.arm
def test_an_archive_that_is_signed_with_another_key_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archives = tmp_path / "archives"
    archives.mkdir()
    other = (sysroot._ARCHIVES / "trixie.sources").read_text()
    (archives / "bookworm.sources").write_text(other.replace("Suites: trixie", "Suites: bookworm"))
    monkeypatch.setattr(sysroot, "_ARCHIVES", archives)
    with pytest.raises(UnavailableError, match="is not signed"):
        sysroot._unpack_packages(tmp_path, "aarch64", "bookworm", profile_of("rpi4").releases["bookworm"])


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
