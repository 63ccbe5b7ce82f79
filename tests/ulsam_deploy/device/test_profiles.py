"""Device profiles are data; a name that isn't one is an error that lists them, before anything is loaded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ulsam_deploy.cli import main
from ulsam_deploy.device.errors import UnavailableError, UsageError
from ulsam_deploy.device.profiles import check_dla, device, devices

from ...hostile import trust


def test_the_designs_names_are_there_and_jetsons_have_tensorrt() -> None:
    assert {"rpi4", "rpi5", "x86-64", "jetson-orin-jp6", "jetson-orin-jp7", "jetson-thor-jp7"} <= set(devices())
    for name, found in devices().items():
        assert (found.tensorrt is not None) == (not name.startswith(("rpi", "x86"))), name
        if found.tensorrt and not found.tensorrt.dla:
            assert found.tensorrt.dla_note, name


def test_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(UsageError, match="no device profile is called 'jetson'") as error:
        device("jetson")
    assert error.value.expected == ", ".join(devices())
    with pytest.raises(UsageError, match="JetPack 5 is not supported"):
        device("jetson-xavier-jp5")


@pytest.mark.parametrize(
    ("name", "precision", "batch", "error", "words"),
    [
        ("", "fp16", 1, UsageError, "needs a device"),
        ("rpi5", "fp16", 1, UnavailableError, "no NVIDIA GPU"),
        ("jetson-thor-jp7", "fp16", 1, UnavailableError, "Thor has no DLA"),
        ("jetson-orin-jp7", "fp16", 1, UnavailableError, r"TensorRT 10\.8 to 11\.3 has no DLA"),
        ("jetson-orin-jp6", "fp16", None, UsageError, "no dynamic shapes"),
        ("jetson-orin-jp6", "fp32", 1, UsageError, "does not compute in fp32"),
    ],
)
def test_where_a_dla_is_not_to_be_had_the_words_say_why(
    name: str, precision: str, batch: int | None, error: Any, words: str
) -> None:
    with pytest.raises(error, match=words):
        check_dla(name, precision, batch)


def test_orin_with_jetpack_6_has_a_dla() -> None:
    check_dla("jetson-orin-jp6", "fp16", 1)


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        (["--device", "orin"], 2, "no device profile is called 'orin'"),
        (["--device", "jetson-thor-jp7", "--dla", "--precision", "fp16"], 4, "Thor has no DLA"),
    ],
)
def test_the_command_line_says_so_before_it_loads_anything(
    options: Any, code: int, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = tmp_path / "m.pt"
    model.write_bytes(b"not read")
    assert main(["export", str(model), "--target", "trt", *options]) == code
    assert words in capsys.readouterr().err


OWN = """
[gateway]
title = "a gateway"
like = "rpi3"
[gateway.arm]
cores = 2
[gateway.arm.releases.bookworm.wheels]
tflite = ["ai-edge-litert==2.2.0"]
[gateway.budget]
instructions_m = 6.0
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def write(text: str) -> None:
        (tmp_path / "mine.toml").write_text(text)
        monkeypatch.setenv("ULSAM_DEPLOY_DEVICES", str(tmp_path / "mine.toml"))

    return write


def test_a_users_own_profile_says_only_how_it_differs(own: Any) -> None:
    own(OWN)
    mine, like = device("gateway"), device("rpi3")
    assert (mine.arm.cores, mine.arm.cpu, mine.arm.features) == (2, like.arm.cpu, like.arm.features)
    assert mine.arm.releases["bookworm"].wheels["tflite"] == ("ai-edge-litert==2.2.0",)
    assert mine.arm.releases["bookworm"].wheels["onnx"] == like.arm.releases["bookworm"].wheels["onnx"]
    assert mine.arm.releases["trixie"] == like.arm.releases["trixie"]
    assert (mine.budget.instructions_m, mine.budget.size_mb) == (6.0, None)
    assert device("rpi3").budget.instructions_m is None, "the one it is like stays as it was"


def test_they_are_found_in_the_users_configuration_folder_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ULSAM_DEPLOY_DEVICES", raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert "gateway" not in devices()
    (tmp_path / "ulsam-deploy").mkdir()
    (tmp_path / "ulsam-deploy" / "devices.toml").write_text(OWN)
    assert list(devices())[-1] == "gateway"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[a", "isn't valid TOML"),
        ("a = 1", "'a' isn't a device"),
        ('[rpi4]\ntitle = "mine"', "a device called 'rpi4' is there already"),
        ('[a]\nlike = "b"', "'a' is like 'b', which isn't above it"),
        ('[a]\ntitle = "a"\nlike = "rpi4"\n[a.arm]\ncpus = "x"', "cpus"),
        ('[a]\ntitle = "a"\n[a.arm]\ncpu = "cortex-a53"', "machine"),
        ('[a]\ntitle = "a"\nlike = "rpi4"\n[a.arm]\npart = "d08"', "hexadecimal"),
        ('[a]\ntitle = "a"\nlike = "rpi4"\n[a.arm]\nmachine = "riscv64"', "aarch64 or armv7l"),
        ('[a]\ntitle = "a"\nlike = "rpi4"\n[a.arm]\npage_kib = 1', "4"),
        ('[a]\ntitle = "a"\n[a.budget]\nsize_mb = "2"', "number"),
    ],
)
def test_a_wrong_profile_of_a_user_is_named_by_file_and_key(text: str, words: str, own: Any) -> None:
    own(text)
    with pytest.raises(UsageError, match=words) as error:
        devices()
    assert "mine.toml" in error.value.found


def test_a_file_that_was_named_and_is_not_there_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ULSAM_DEPLOY_DEVICES", str(tmp_path / "absent.toml"))
    with pytest.raises(UsageError, match=r"absent\.toml can't be read"):
        devices()


@pytest.mark.parametrize("name", [name for name in trust.PROFILES if name != "like itself"])
def test_names_are_no_options_and_limits_are_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """What stands in a profile ends in the command lines of apt, pip and qemu."""
    own = tmp_path / "own.toml"
    own.write_text(trust.LIKE)
    monkeypatch.setenv("ULSAM_DEPLOY_DEVICES", str(own))
    assert devices()["x"].arm
    own.write_text(trust.profile(trust.PROFILES[name]))
    with pytest.raises(UsageError, match=r"own\.toml \[x\]: at \$"):
        devices()
