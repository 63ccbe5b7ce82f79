"""Power as the machine itself reports it: which sensor there is, what it covers, and its mean over some time.

Standard library only; device-safe. Jetson: the ``VDD_IN`` rail of its INA3221 (the whole module). Raspberry Pi 5: its
power chip's own measurements (the board's rails, not what the plug gives; older ones have none). x86: RAPL's counters
of the processor packages. A sensor that can't be read gives ``None``, never 0.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ulsam_deploy.device.bench.board import Board

__all__ = ["Drawn", "Meter", "draw", "meter"]

#: Seconds between two readings: the sensors themselves update about ten times a second.
PAUSE = 0.1
#: More than a whole board or a package can draw; a higher reading is wrong.
MOST_WATTS = 2000.0


@dataclass(frozen=True)
class Meter:
    """A sensor: ``sensor`` names it and what it covers; ``watts`` reads the power now, or ``joules`` a counter."""

    sensor: str
    watts: Callable[[], float | None] | None = None
    joules: Callable[[], float | None] | None = None
    wraps_at: float | None = None


@dataclass(frozen=True)
class Drawn:
    """Mean power in W over ``seconds``, from so many ``readings``."""

    watts: float
    seconds: float
    readings: int


def meter(board: Board) -> Meter | None:
    """The best sensor of this machine that can be read now; ``None`` without one."""
    for found in (_ina3221(board), _pi5(board), _rapl(board)):
        read = found and (found.watts or found.joules)
        if found and read and read() is not None:
            return found
    return None


def draw(
    found: Meter,
    seconds: float,
    *,
    clock: Callable[[], float] = time.perf_counter,
    sleep: Callable[[float], None] = time.sleep,
) -> Drawn | None:
    """Read the meter for ``seconds``; ``None`` if a reading failed, or the counter went backwards or stood still."""
    began = clock()
    if found.watts is None:
        first = found.joules() if found.joules else None
        sleep(seconds)
        last, lasted = found.joules() if found.joules else None, clock() - began
        if first is None or last is None:
            return None
        used = last - first + (found.wraps_at or 0.0 if last < first else 0.0)
        return Drawn(used / lasted, lasted, 2) if 0 < used / lasted < MOST_WATTS else None
    readings: list[float | None] = [found.watts()]
    while clock() - began < seconds:
        sleep(PAUSE)
        readings.append(found.watts())
    known = [value for value in readings if value is not None and 0 < value < MOST_WATTS]
    if len(known) < len(readings):
        return None
    return Drawn(sum(known) / len(known), clock() - began, len(known))


def _ina3221(board: Board) -> Meter | None:
    """The rail ``VDD_IN``, or nothing if a board has no such rail: the sum of its rails would count power twice."""
    labels = board.paths("sys/bus/i2c/drivers/ina3221*/*/hwmon/hwmon*/in*_label")
    label = next((label for label in labels if board.text(label) == "VDD_IN"), None)
    if label is None:
        return None
    folder, _, name = label.rpartition("/")
    channel = name[len("in") : -len("_label")]
    voltage, current = f"{folder}/in{channel}_input", f"{folder}/curr{channel}_input"
    return Meter("INA3221 VDD_IN: the whole module", lambda: _product(board.number(voltage), board.number(current)))


def _product(millivolts: float | None, milliamperes: float | None) -> float | None:
    return None if millivolts is None or milliamperes is None else millivolts * milliamperes * 1e-6


def _pi5(board: Board) -> Meter | None:
    """``vcgencmd pmic_read_adc``: ``VDD_CORE_A current(7)=2.1A`` and ``VDD_CORE_V volt(15)=0.88V``, rail by rail."""
    if "Raspberry Pi 5" not in (board.model or ""):
        return None

    def watts() -> float | None:
        said = board.command(["vcgencmd", "pmic_read_adc"]) or ""
        found = re.findall(r"(\w+)_([AV]) (?:current|volt)\(\d+\)=(-?[\d.]+)[AV]", said)
        amperes, volts = ({rail: float(value) for rail, kind, value in found if kind == k} for k in "AV")
        rails = amperes.keys() & volts.keys()
        return sum(amperes[rail] * volts[rail] for rail in rails) if rails else None

    return Meter("pmic_read_adc: the board's rails, without USB and the supply's own loss", watts)


def _rapl(board: Board) -> Meter | None:
    """The packages' energy counters; they wrap around, and only root may read them on many systems."""
    packages = [
        folder
        for folder in board.paths("sys/class/powercap/intel-rapl:*")
        if re.fullmatch(r"package-\d+", board.text(f"{folder}/name") or "")
    ]
    if not packages:
        return None
    files = [f"{folder}/energy_uj" for folder in packages]
    ranges = [board.number(f"{folder}/max_energy_range_uj", 1e-6) for folder in packages]
    return Meter(
        f"RAPL of {len(packages)} processor package{'s' if len(packages) > 1 else ''}, without memory and board",
        joules=lambda: _sum([board.number(file, 1e-6) for file in files]),
        # With several packages it is unknown which one wrapped around.
        wraps_at=ranges[0] if len(ranges) == 1 else None,
    )


def _sum(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) if len(known) == len(values) else None
