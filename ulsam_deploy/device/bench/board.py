"""The state of the machine from its files and commands, read only; unreadable or impossible values are ``None``.

Standard library only; device-safe. The root of the file system and the command runner are parameters, so that every
board can be tested on any machine. The sources are sysfs and vcgencmd, as ``docs/bench.md`` lists.
"""

from __future__ import annotations

import math
import os
import platform
import re
import subprocess
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ulsam_deploy.device.bench.result import Machine

__all__ = ["Board", "Command", "run_command"]

#: Returns a command's output, or ``None`` if it isn't there or failed.
Command = Callable[[Sequence[str]], "str | None"]

#: Possible values of a running chip, in Celsius and MHz; a value outside is a wrong reading.
_TEMPERATURES = (-40.0, 130.0)
_CLOCKS = (1.0, 20_000.0)


def run_command(words: Sequence[str]) -> str | None:
    """Run a command of the board and return what it printed."""
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=10, stdin=subprocess.DEVNULL, check=False)
    except (OSError, subprocess.SubprocessError, ValueError):
        return None
    return done.stdout if done.returncode == 0 else None


@dataclass(frozen=True)
class Board:
    """A machine with its files below ``root``, whose commands ``command`` runs."""

    root: Path = Path("/")
    command: Command = run_command

    def text(self, path: str | Path) -> str | None:
        """A file's text without surrounding blanks and NULs; ``None`` if it is missing, unreadable or empty."""
        try:
            return (self.root / path).read_bytes().decode(errors="replace").strip("\0 \t\r\n") or None
        except OSError:  # a sensor of a unit that is switched off answers EAGAIN or EIO
            return None

    def number(self, path: str | Path, scale: float = 1.0) -> float | None:
        """A file's only number times ``scale``; ``None`` if there is none."""
        text = self.text(path)
        try:
            value = float(text) * scale if text else math.nan
        except ValueError:
            return None
        return value if math.isfinite(value) else None

    def paths(self, pattern: str) -> list[str]:
        """The paths that match ``pattern``, relative to the root, in the order of the numbers in the names."""
        found = (str(path.relative_to(self.root)) for path in self.root.glob(pattern))
        return sorted(
            found, key=lambda name: [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", name)]
        )

    @property
    def model(self) -> str | None:
        """The board's own name, such as ``Raspberry Pi 5 Model B Rev 1.0``."""
        vendor, product = (self.text(f"sys/class/dmi/id/{name}") for name in ("sys_vendor", "product_name"))
        return self.text("proc/device-tree/model") or " ".join(filter(None, (vendor, product))) or None

    @property
    def is_pi(self) -> bool:
        """Whether this is a Raspberry Pi, whose state must be read from the firmware."""
        return "Raspberry Pi" in (self.model or "")

    @property
    def is_jetson(self) -> bool:
        """Whether this is a Jetson."""
        return "Jetson" in (self.model or "") or self.text("etc/nv_tegra_release") is not None

    @property
    def l4t(self) -> str | None:
        """The release of Jetson Linux, such as ``36.4.4``."""
        found = re.search(r"R(\d+)\D+REVISION: ([\d.]+)", self.text("etc/nv_tegra_release") or "")
        return f"{found[1]}.{found[2]}" if found else None

    def cpu_parts(self) -> set[str]:
        """``CPU part`` of every core of an ARM processor, as the kernel writes it: ``0xd08``."""
        return set(re.findall(r"^CPU part\s*:\s*(\S+)", self.text("proc/cpuinfo") or "", re.MULTILINE))

    def temperatures(self) -> Iterator[tuple[str, float | None, float | None]]:
        """Name, value and throttling threshold in Celsius of every temperature sensor of a chip."""
        for zone in self.paths("sys/class/thermal/thermal_zone*"):
            name = self.text(f"{zone}/type") or zone.rpartition("/")[2]
            if _of_a_chip(name):
                yield name, _within(self.number(f"{zone}/temp", 1e-3), _TEMPERATURES), self._trip(zone)
        for folder in self.paths("sys/class/hwmon/hwmon*"):
            chip = self.text(f"{folder}/name")
            if chip in ("coretemp", "k10temp", "zenpower"):
                degrees = _within(self.number(f"{folder}/temp1_input", 1e-3), _TEMPERATURES)
                yield chip, degrees, _within(self.number(f"{folder}/temp1_max", 1e-3), _TEMPERATURES)

    def _trip(self, zone: str) -> float | None:
        if self.is_pi:
            return 80.0  # the firmware's, which no file states
        kinds = [(path, self.text(path)) for path in self.paths(f"{zone}/trip_point_*_type")]
        trips = [self.number(path[: -len("type")] + "temp", 1e-3) for path, kind in kinds if kind in ("passive", "hot")]
        possible = [trip for trip in trips if trip is not None and 20 < trip < _TEMPERATURES[1]]
        return min(possible, default=None)

    def cpu_clocks(self, cpus: Sequence[int] = ()) -> Iterator[tuple[str, float | None, float | None]]:
        """Clock domain, MHz, and the expected MHz of a busy core, for the domains of ``cpus`` (empty: all).

        A Pi's files state the requested clock, its firmware the actual one. On x86 the highest clock is a temporary
        boost; the base clock is what is promised, and if it isn't stated nothing is expected.
        """
        measured = self._measured_clock() if self.is_pi else None
        for policy in self.policies(cpus):
            now = measured if self.is_pi else self.number(f"{policy}/scaling_cur_freq", 1e-3)
            boosting = self.text(f"{policy}/base_frequency") is not None or _is_x86(
                self.text(f"{policy}/scaling_driver")
            )
            reach = self.number(f"{policy}/{'base_frequency' if boosting else 'scaling_max_freq'}", 1e-3)
            yield policy.rpartition("/")[2], _within(now, _CLOCKS), _within(reach, _CLOCKS)

    def policies(self, cpus: Sequence[int] = ()) -> list[str]:
        """The folders of the clock domains that have one of ``cpus`` (empty: all)."""
        every = self.paths("sys/devices/system/cpu/cpufreq/policy*")
        related = {policy: (self.text(f"{policy}/related_cpus") or "").split() for policy in every}
        return [policy for policy in every if not cpus or {str(cpu) for cpu in cpus} & set(related[policy])]

    def _measured_clock(self) -> float | None:
        said = re.fullmatch(r"frequency\(\d+\)=(\d+)\s*", self.command(["vcgencmd", "measure_clock", "arm"]) or "")
        return int(said[1]) / 1e6 if said else None

    def gpu_clocks(self) -> Iterator[tuple[str, float | None, float | None]]:
        """As :meth:`cpu_clocks`, for a Jetson's GPU. The name of its device differs from board to board."""
        for folder in self.paths("sys/class/devfreq/*"):
            name = self.text(f"{folder}/device/of_node/name") or folder.rpartition("/")[2]
            if re.search(r"gpu|gv11b|ga10b", name):
                now, most = (self.number(f"{folder}/{file}", 1e-6) for file in ("cur_freq", "max_freq"))
                yield name, _within(now, _CLOCKS), _within(most, _CLOCKS)

    def governors(self) -> dict[str, str | None]:
        """The governor of each clock domain."""
        return {policy.rpartition("/")[2]: self.text(f"{policy}/scaling_governor") for policy in self.policies()}

    def power_mode(self) -> str | None:
        """A Jetson's ``nvpmodel`` mode, or the platform profile of a PC."""
        if not self.is_jetson:
            return self.text("sys/firmware/acpi/platform_profile")
        said = re.search(r"NV Power Mode:\s*(\S+)(?:\s+(\d+))?", self.command(["nvpmodel", "-q"]) or "")
        return f"{said[1]} ({said[2]})" if said and said[2] else said[1] if said else None

    def throttle_counts(self) -> dict[str, int | None]:
        """Events so far by kind; only the difference between two readings is meaningful."""
        names = {"oc1": "undervoltage", "oc2": "average overcurrent", "oc3": "instantaneous overcurrent"}
        counts: dict[str, int | None] = {}
        for folder in self.paths("sys/class/hwmon/hwmon*"):
            if self.text(f"{folder}/name") == "soctherm_oc":
                counts |= {word: self._count(f"{folder}/{name}_event_cnt") for name, word in names.items()}
        for word in ("core", "package"):
            files = self.paths(f"sys/devices/system/cpu/cpu[0-9]*/thermal_throttle/{word}_throttle_count")
            found = [self._count(file) for file in files]
            known = [count for count in found if count is not None]
            if files:
                counts[f"{word} throttled"] = sum(known) if len(known) == len(found) else None
        return counts

    def throttle_flags(self) -> dict[str, tuple[bool, bool] | None]:
        """By kind, whether it happens now, and whether it happened since the machine started."""
        flags: dict[str, tuple[bool, bool] | None] = {}
        if self.is_pi:
            bits = self._pi_bits()
            for bit, word in enumerate(("undervoltage", "clock capped", "throttled", "soft temperature limit")):
                flags[word] = None if bits is None else (bool(bits >> bit & 1), bool(bits >> (16 + bit) & 1))
        for device in self.paths("sys/class/thermal/cooling_device*"):
            kind = self.text(f"{device}/type") or ""
            if kind.endswith("-alert") or kind.startswith(("cpufreq-", "thermal-cpufreq", "Processor")):
                state = self._count(f"{device}/cur_state")
                now = None if state is None else (state > 0, False)
                flags[kind] = now if flags.get(kind, (False, False)) == (False, False) else flags[kind]
        return flags

    def _pi_bits(self) -> int | None:
        said = re.fullmatch(r"throttled=0x([0-9a-fA-F]+)\s*", self.command(["vcgencmd", "get_throttled"]) or "")
        text = (
            said[1]
            if said
            else next(map(self.text, self.paths("sys/devices/platform/*/*firmware/get_throttled")), None)
        )
        try:
            bits = int(text or "", 16)
        except ValueError:
            return None
        return bits if bits >> 20 == 0 else None  # more bits than the firmware has: not a valid answer

    def _count(self, path: str) -> int | None:
        value = self.number(path)
        return int(value) if value is not None and value >= 0 else None

    def cpu_seconds(self) -> tuple[float, float] | None:
        """Busy seconds and total seconds of all cores since the machine started."""
        words = (self.text("proc/stat") or "").splitlines()[:1]
        numbers = words[0].split()[1:9] if words and words[0].startswith("cpu ") else []
        if len(numbers) < 8 or not all(number.isdigit() for number in numbers):
            return None
        ticks = [int(number) / os.sysconf("SC_CLK_TCK") for number in numbers]
        return sum(ticks) - ticks[3] - ticks[4], sum(ticks)

    def process_seconds(self, process: int) -> float | None:
        """CPU seconds that ``process`` has used."""
        fields = (self.text(f"proc/{process}/stat") or "").rpartition(")")[2].split()
        if len(fields) < 13 or not (fields[11].isdigit() and fields[12].isdigit()):
            return None
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def machine(self) -> Machine:
        """The facts that never change while it runs."""
        memory = re.search(r"^MemTotal:\s+(\d+) kB", self.text("proc/meminfo") or "", re.MULTILINE)
        release = re.search(r'^PRETTY_NAME="?([^"\n]+)', self.text("etc/os-release") or "", re.MULTILINE)
        system = [release[1] if release else None, f"L4T {self.l4t}" if self.l4t else None]
        processors = self.text("proc/cpuinfo") or ""
        name = re.search(r"^(?:model name|Hardware)\s*:\s*(.+)", processors, re.MULTILINE)
        part = re.search(r"^CPU part\s*:\s*(\S+)", processors, re.MULTILINE)
        return Machine(
            board=self.model,
            cpu=name[1].strip() if name else _ARM_PARTS.get(part[1], part[1]) if part else None,
            cores=len(re.findall(r"^processor\s*:", processors, re.MULTILINE)) or os.cpu_count() or 1,
            architecture=platform.machine(),
            system=", ".join(filter(None, system)) or None,
            kernel=(self.text("proc/sys/kernel/osrelease") or platform.release()),
            python=platform.python_version(),
            page_size=os.sysconf("SC_PAGESIZE"),
            memory=int(memory[1]) * 1024 if memory else None,
        )


#: ``CPU part`` of ARM's own cores (implementer 0x41), as in the kernel's ``cputype.h``.
_ARM_PARTS = {
    "0xd03": "Cortex-A53", "0xd07": "Cortex-A57", "0xd08": "Cortex-A72", "0xd0b": "Cortex-A76", "0xd42": "Cortex-A78AE",
    "0xd4b": "Cortex-A78C", "0xd83": "Neoverse-V3AE",
}  # fmt: skip


def _of_a_chip(name: str) -> bool:
    """Whether a thermal zone is one that slows the machine down: not a battery, a radio or a fan's own sensor."""
    return bool(re.match(r"(?i)(cpu|gpu|soc|tj|x86_pkg|bcm|scpi)", name)) and "alert" not in name


def _is_x86(driver: str | None) -> bool:
    return driver in ("intel_pstate", "intel_cpufreq", "amd-pstate", "amd-pstate-epp", "acpi-cpufreq")


def _within(value: float | None, limits: tuple[float, float]) -> float | None:
    """``value`` if it is possible, else ``None``."""
    return value if value is not None and limits[0] < value < limits[1] and value != 0 else None
