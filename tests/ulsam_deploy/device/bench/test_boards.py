"""The watchers on every recorded shape of a machine: clean, disturbed, or unknown, and never clean by mistake."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from ulsam_deploy.device.bench.board import Board, run_command
from ulsam_deploy.device.bench.result import Condition
from ulsam_deploy.device.bench.watch import judge, snapshot, worst

from .boards import (
    FIXTURES,
    MISSING,
    MODE,
    ORIN_JP6,
    PI4,
    PI4_SAYS,
    PI5,
    PI5_SAYS,
    UNREADABLE,
    X86,
    Fixture,
    load,
    table,
)

DOCS = Path(__file__).parents[4] / "docs" / "bench.md"
WHOLE = ("Orin, JetPack 6", "Orin, JetPack 7", "Thor, JetPack 7", "Pi 4", "Pi 5", "x86")


def test_the_published_table_is_the_one_that_the_fixtures_give() -> None:
    assert table() in DOCS.read_text(), "print it with: python -m tests.ulsam_deploy.device.bench.boards"


@pytest.mark.parametrize("name", WHOLE)
def test_a_machine_that_tells_everything_is_clean(name: str, tmp_path: Path) -> None:
    watch = FIXTURES[name].looks(tmp_path)
    assert watch.condition is Condition.CLEAN
    assert watch.reasons == ()
    assert watch.other_load == pytest.approx(0.0)


@pytest.mark.parametrize(
    ("name", "condition", "words"),
    [
        ("x86 of AMD: no counters of throttling", "unknown", "Nothing here tells of throttling."),
        ("virtual machine: nothing told", "unknown", "Nothing here tells of throttling."),
        ("Orin: overcurrent meanwhile", "disturbed", "Average overcurrent happened 2 times."),
        ("Orin: GPU held back", "disturbed", "ran at 306 of 625 MHz"),
        ("Orin: power mode changed", "disturbed", "power mode was changed"),
        ("Orin: nvpmodel missing", "unknown", "The power mode can't be read."),
        ("Orin: GPU clock unreadable", "unknown", "The GPU clock ga10b can't be read."),
        ("Orin: event counter runs backwards", "unknown", "Undervoltage can't be read."),
        ("Orin: event counter vanishes", "unknown", "Undervoltage can't be read."),
        ("Thor: no GPU clock", "unknown", "Nothing here tells a GPU clock."),
        ("Pi 4: throttled now", "disturbed", "Undervoltage happened once. Throttled happened once."),
        ("Pi 4: undervoltage meanwhile", "disturbed", "Undervoltage happened once."),
        ("Pi 4: flag from before", "unknown", "stays up until the board restarts"),
        ("Pi 4: vcgencmd missing", "unknown", "The clock policy0 can't be read."),
        ("Pi 4: firmware lies", "unknown", "Throttled can't be read."),
        ("Pi 4: the clock is less than asked", "disturbed", "ran at 600 of 1800 MHz under load"),
        ("Pi 5: 80 C", "disturbed", "reached 81 C; it slows down from 80"),
        ("Pi 5: temperature lies", "unknown", "temperature cpu-thermal can't be read"),
        ("Pi 5: temperature unreadable", "unknown", "temperature cpu-thermal can't be read"),
        ("Pi 5: governor unreadable", "unknown", "governor of policy0 can't be read"),
        ("x86: throttled meanwhile", "disturbed", "Core throttled happened 2 times."),
        ("x86: other programs", "disturbed", "Other programs used 38% of all cores."),
        ("x86: governor changed", "disturbed", "governor or the power mode was changed"),
        ("x86: clock lies", "unknown", "The clock policy0 can't be read."),
        ("x86: temperature vanishes", "unknown", "temperature x86_pkg_temp can't be read"),
        ("x86: load untold", "unknown", "load by other programs can't be read"),
    ],
)
def test_what_goes_wrong_is_told(name: str, condition: str, words: str, tmp_path: Path) -> None:
    watch = FIXTURES[name].looks(tmp_path)
    assert watch.condition.value == condition
    assert words in " ".join(reason.text for reason in watch.reasons)


def test_every_fixture_has_a_test() -> None:
    marks = [mark for mark in test_what_goes_wrong_is_told.pytestmark if mark.name == "parametrize"]  # type: ignore[attr-defined]
    assert {*WHOLE, *(case[0] for case in marks[0].args[1])} == set(FIXTURES)


@pytest.mark.parametrize("fault", [MISSING, UNREADABLE, "", "garbage\n", "-99999999\n"])
@pytest.mark.parametrize("name", WHOLE)
def test_no_file_that_can_not_be_read_certifies_a_clean_run(name: str, fault: str, tmp_path: Path) -> None:
    """Any one file that the verdict rests on, damaged in the second look: never clean."""
    fixture = FIXTURES[name]
    needed = ("/temp", "scaling_cur_freq", "cur_freq", "_event_cnt", "throttle_count", "proc/stat", "scaling_governor")
    pi_asks_the_firmware = "scaling_cur_freq" if "Pi" in name else "\0"
    files = [f for f in (*fixture.files, "proc/stat") if f.endswith(needed) and not f.endswith(pi_asks_the_firmware)]
    assert len(files) >= 3
    for number, file in enumerate(files):
        if file.endswith("scaling_governor") and fault in ("garbage\n", "-99999999\n"):
            continue  # another governor: that is "changed"
        broken = Fixture(name, fixture.files, fixture.commands, {file: fault}, on_gpu=fixture.on_gpu)
        assert broken.looks(tmp_path / str(number)).condition is not Condition.CLEAN, file


@pytest.mark.parametrize(
    "answer", ["", "throttled=0x", "error\n", "VCHI initialization failed\n", "throttled=0x0 0x0\n"]
)
def test_a_firmware_that_talks_nonsense_certifies_nothing(answer: str, tmp_path: Path) -> None:
    watch = Fixture("", PI4, {**PI4_SAYS, "vcgencmd get_throttled": answer}).looks(tmp_path)
    assert watch.condition is Condition.UNKNOWN


def test_a_gpu_that_idles_matters_only_to_what_runs_on_it(tmp_path: Path) -> None:
    slow = {"sys/class/devfreq/17000000.gpu/cur_freq": "306000000\n"}
    assert Fixture("", ORIN_JP6, MODE, slow).looks(tmp_path).condition is Condition.CLEAN


def test_pinned_to_some_processors_only_their_clocks_count(tmp_path: Path) -> None:
    """Policy 1 idles at 800 MHz: pinned there, the clock is too low; on both, the busy one shows that it isn't."""
    fixture = Fixture("", X86)
    board = fixture.board(tmp_path)
    for cpus, condition in (((), Condition.CLEAN), ((0,), Condition.CLEAN), ((1,), Condition.DISTURBED)):
        Fixture.lay(tmp_path, load(0))
        before = snapshot(board, 42, cpus)
        Fixture.lay(tmp_path, load(1))
        assert judge(before, snapshot(board, 42, cpus)).condition is condition


def test_machines_are_described(tmp_path: Path) -> None:
    files = {
        "proc/cpuinfo": "processor\t: 0\nCPU part\t: 0xd42\nprocessor\t: 1\nCPU part\t: 0xd42\n",
        "proc/meminfo": "MemTotal:        7990000 kB\n",
        "etc/os-release": 'NAME="x"\nPRETTY_NAME="Ubuntu 22.04.5 LTS"\n',
        "proc/sys/kernel/osrelease": "5.15.148-tegra\n",
    }
    machine = Fixture("", {**ORIN_JP6, **files}).board(tmp_path).machine()
    assert machine.board == "NVIDIA Jetson Orin Nano Developer Kit"
    assert (machine.cpu, machine.cores, machine.memory) == ("Cortex-A78AE", 2, 7990000 * 1024)
    assert machine.system == "Ubuntu 22.04.5 LTS, L4T 36.4.4"
    assert machine.kernel == "5.15.148-tegra"


def test_this_very_machine_is_read_without_an_error() -> None:
    board = Board()
    before = snapshot(board, os.getpid())
    until = time.monotonic() + 0.1  # some ticks of the kernel's clock
    while time.monotonic() < until:
        pass
    watch = judge(before, snapshot(board, os.getpid()))
    assert watch.other_load is not None
    assert board.machine().cores >= 1
    assert run_command(["sh", "-c", "echo it; exit 1"]) is None
    assert run_command(["no-such-command-here"]) is None
    assert run_command(["echo", "it"]) == "it\n"


def test_the_worst_of_several_conditions() -> None:
    clean, unknown, disturbed = Condition.CLEAN, Condition.UNKNOWN, Condition.DISTURBED
    assert worst([clean, clean]) is clean
    assert worst([clean, unknown]) is unknown
    assert worst([unknown, disturbed, clean]) is disturbed
    assert worst([]) is unknown


def test_a_chip_without_a_thermal_zone_has_its_own_sensor(tmp_path: Path) -> None:
    """And a hot disk is not the processor."""
    board = FIXTURES["x86 of AMD: no counters of throttling"].board(tmp_path)
    assert list(board.temperatures()) == [("k10temp", 66.125, None)]


def test_a_pi5_says_more_than_a_pi4(tmp_path: Path) -> None:
    from ulsam_deploy.device.bench.power import meter

    assert meter(Fixture("", PI4, PI4_SAYS).board(tmp_path / "4")) is None
    found = meter(Fixture("", PI5, PI5_SAYS).board(tmp_path / "5"))
    assert found is not None
    assert found.watts is not None
    assert found.watts() == pytest.approx(0.1 * 3.3 + 2.0 * 0.9)  # EXT5V has no current: not counted
