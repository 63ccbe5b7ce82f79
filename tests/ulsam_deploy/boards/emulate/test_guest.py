"""What the program on the board checks before an engine runs, without a board."""

from __future__ import annotations

import re

import pytest

from ulsam_deploy.boards.emulate import guest
from ulsam_deploy.boards.emulate.kernels import costs
from ulsam_deploy.boards.emulate.machine import cpuinfo, profile_of
from ulsam_deploy.device.errors import UnavailableError
from ulsam_deploy.device.profiles import devices

#: What Linux says a Cortex-A72 has, in the profile's order, and its MIDR_EL1.
A72, A72_ID = {"fp", "asimd", "crc32", "cpuid", "aes", "pmull", "sha1", "sha2"}, 0x410FD083


def described(board: str) -> str:
    return cpuinfo(profile_of(board))


def test_a_right_description_fits() -> None:
    assert guest.mismatch(described("rpi4"), A72, A72_ID) == ""


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (described("rpi5"), "it claims .*asimddp.*, which the processor lacks"),
        (described("rpi4").replace(" asimd ", " "), "it hides asimd"),
        (described("rpi4").replace("0xd08", "0xd0b"), "CPU part 0xd0b, the processor is 0xd08"),
        ("", "it hides"),
    ],
)
def test_each_wrong_description_is_told_apart(text: str, words: str) -> None:
    assert re.search(words, guest.mismatch(text, A72, A72_ID))


def test_of_a_32_bit_processor_only_claims_are_checked() -> None:
    present = set(profile_of("rpi4-32bit").features)
    assert guest.mismatch(described("rpi4-32bit"), present | {"more"}, None) == ""
    assert "claims neon" in guest.mismatch(described("rpi4-32bit"), present - {"neon"}, None)
    assert set(profile_of("rpi4-32bit").features) <= {*guest.HWCAP_32, *guest.HWCAP2_32}


def test_every_feature_of_a_profile_has_a_bit() -> None:
    for name, found in devices().items():
        if found.arm and found.arm.machine == "aarch64":
            assert set(found.arm.features) <= {*guest.HWCAP, *guest.HWCAP2}, name
    assert guest.features(1 << 1 | 1 << 20, guest.HWCAP) == {"asimd", "asimddp"}


def test_a_board_has_as_many_processors_as_its_profile_says() -> None:
    assert described("rpi5").count("processor\t:") == 4
    assert "Model\t\t: Raspberry Pi 5" in described("rpi5")


def test_a_device_that_nothing_emulates_is_exit_4_and_names_those_that_can_be() -> None:
    with pytest.raises(UnavailableError, match="can't be emulated") as error:
        profile_of("x86-64")
    assert "rpi5" in error.value.expected


def test_maps_of_code_are_read_and_places_outside_them_have_no_name() -> None:
    text = (
        "00400000-00401000 r-xp 00002000 08:01 42                  /usr/lib/lib with space.so\n"
        "00401000-00402000 rw-p 00003000 08:01 42                  /usr/lib/data.so\n"
        "00500000-00501000 r-xp 00000000 00:00 0 \n"
    )
    assert list(guest.code_maps(text)) == [guest.CodeMap(0x400000, 0x401000, 0x2000, "/usr/lib/lib with space.so")]
    (kernel,) = costs({0x500000: 30, 0x600000: 10}, [], runs=4)
    assert (kernel.name, kernel.library, kernel.instructions) == ("(no symbol)", "", 10)


def test_kernels_beyond_the_top_are_one_line() -> None:
    found = costs({}, [], runs=1)
    assert found == ()
