"""Device profiles are data; a name that isn't one is an error that lists them, before anything is loaded."""

from __future__ import annotations

import pytest

from ulsam_deploy.cli import main
from ulsam_deploy.devices import check_dla, device, devices
from ulsam_deploy.errors import UnavailableError, UsageError


def test_the_designs_names_are_there_and_jetsons_have_tensorrt():
    assert {"rpi4", "rpi5", "x86-64", "jetson-orin-jp6", "jetson-orin-jp7", "jetson-thor-jp7"} <= set(devices())
    for name, found in devices().items():
        assert (found.tensorrt is not None) == (not name.startswith(("rpi", "x86"))), name
        if found.tensorrt and not found.tensorrt.dla:
            assert found.tensorrt.dla_note, name


def test_unknown_name_lists_the_known_ones():
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
def test_where_a_dla_is_not_to_be_had_the_words_say_why(name, precision, batch, error, words):
    with pytest.raises(error, match=words):
        check_dla(name, precision, batch)


def test_orin_with_jetpack_6_has_a_dla():
    check_dla("jetson-orin-jp6", "fp16", 1)


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        (["--device", "orin"], 2, "no device profile is called 'orin'"),
        (["--device", "jetson-thor-jp7", "--dla", "--precision", "fp16"], 4, "Thor has no DLA"),
    ],
)
def test_the_command_line_says_so_before_it_loads_anything(options, code, words, tmp_path, capsys):
    model = tmp_path / "m.pt"
    model.write_bytes(b"not read")
    assert main(["export", str(model), "--target", "trt", *options]) == code
    assert words in capsys.readouterr().err
