"""Power: the right sensor, its mean, and nothing where it lies."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ulsam_deploy.device.bench.power import Meter, draw, meter

from .boards import INA, MODE, ORIN_JP6, UNREADABLE, X86, Fixture


class Clock:
    """Time that passes only while somebody sleeps."""

    def __init__(self) -> None:
        self.now = 0.0

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def __call__(self) -> float:
        return self.now


def drawn(found: Meter, seconds: float, clock: Clock | None = None) -> Any:
    clock = clock or Clock()
    return draw(found, seconds, clock=clock, sleep=clock.sleep)


def test_a_jetson_has_its_input_rail(tmp_path: Path) -> None:
    found = meter(Fixture("", ORIN_JP6, MODE).board(tmp_path))
    assert found is not None
    assert found.sensor == "INA3221 VDD_IN: the whole module"
    mean = drawn(found, 1.0)
    assert mean.watts == pytest.approx(10.0)  # 5 V x 2 A; the rail of CPU and GPU is not added to it
    assert mean.seconds == pytest.approx(1.0, abs=0.11)
    assert mean.readings in (11, 12)


@pytest.mark.parametrize("file", [f"{INA}/in1_input", f"{INA}/curr1_input"])
def test_a_rail_that_can_not_be_read_is_no_sensor(file: str, tmp_path: Path) -> None:
    assert meter(Fixture("", {**ORIN_JP6, file: UNREADABLE}, MODE).board(tmp_path)) is None


def test_a_counter_gives_the_mean_between_two_looks_and_may_run_over(tmp_path: Path) -> None:
    fixture = Fixture("", X86)
    board = fixture.board(tmp_path)
    found = meter(board)
    assert found is not None
    assert found.sensor == "RAPL of 1 processor package, without memory and board"

    class Used(Clock):
        def sleep(self, seconds: float) -> None:
            super().sleep(seconds)
            Fixture.lay(tmp_path, {"sys/class/powercap/intel-rapl:0/energy_uj": f"{joules * 1e6:.0f}\n"})

    joules = 31.0  # from 1 J on
    assert drawn(found, 2.0, Used()).watts == pytest.approx(15.0)
    most = 262143.328850
    Fixture.lay(tmp_path, {"sys/class/powercap/intel-rapl:0/energy_uj": f"{(most - 5) * 1e6:.0f}\n"})
    joules = 15.0
    assert drawn(found, 2.0, Used()).watts == pytest.approx(10.0)


def test_a_counter_that_stands_still_measured_nothing(tmp_path: Path) -> None:
    found = meter(Fixture("", X86).board(tmp_path))
    assert found is not None
    assert drawn(found, 1.0) is None


@pytest.mark.parametrize("bad", [None, 0.0, -3.0, 1e6])
def test_one_bad_reading_makes_the_mean_unknown(bad: float | None) -> None:
    readings = iter([5.0, 5.0, bad, 5.0, 5.0, 5.0])
    assert drawn(Meter("x", lambda: next(readings)), 0.45) is None
    good = iter([4.0, 6.0, 5.0, 5.0, 5.0, 5.0])
    assert drawn(Meter("x", lambda: next(good)), 0.45).watts == pytest.approx(5.0)
