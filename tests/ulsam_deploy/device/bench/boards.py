"""Machines as their files and commands show them, in the shape recorded from real ones, and what goes wrong with them.

Nothing here was measured: the shapes follow the vendors' documents. Each fixture has a first look and what changed
until the second one. Print all of them with ``python -m tests.ulsam_deploy.device.bench.boards`` in the root.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ulsam_deploy.device.bench import power
from ulsam_deploy.device.bench.board import Board
from ulsam_deploy.device.bench.result import Watch
from ulsam_deploy.device.bench.watch import judge, snapshot

#: A file that is there and can't be read: a folder stands in its place (the superuser may read anything else).
UNREADABLE = "\0unreadable"
MISSING = "\0missing"
PROCESS = 42


@dataclass(frozen=True)
class Fixture:
    """``files`` by path below the root, ``commands`` by their words; ``later`` and ``later_commands``: what changed."""

    name: str
    files: Mapping[str, str]
    commands: Mapping[str, str] = field(default_factory=dict)
    later: Mapping[str, str] = field(default_factory=dict)
    later_commands: Mapping[str, str] = field(default_factory=dict)
    on_gpu: bool = False

    def looks(self, root: Path) -> Watch:
        """What the watchers say of it, its files below the empty folder ``root``."""
        board = self.board(root)
        before = snapshot(board, PROCESS)
        self.lay(root, {**load(1), **self.later})
        later = Board(root, runner({**self.commands, **self.later_commands}))
        return judge(before, snapshot(later, PROCESS), on_gpu=self.on_gpu)

    def board(self, root: Path) -> Board:
        """As it stands at the first look."""
        self.lay(root, {**load(0), **self.files})
        return Board(root, runner(self.commands))

    @staticmethod
    def lay(root: Path, files: Mapping[str, str]) -> None:
        for name, text in files.items():
            path = root / name
            if text == MISSING:
                path.unlink(missing_ok=True)
            elif text == UNREADABLE:
                path.unlink(missing_ok=True)
                path.mkdir(parents=True)
            else:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text)


def runner(commands: Mapping[str, str]) -> object:
    def run(words: Sequence[str]) -> str | None:
        return commands.get(" ".join(words))

    return run


def load(look: int, others: int = 0) -> dict[str, str]:
    """``/proc`` of four cores: in the second look the process has run 1 s, and ``others`` hundredths went elsewhere."""
    busy, idle, own = 5000 + look * (100 + others), 90000 + look * (300 - others), 200 + look * 100
    return {
        "proc/stat": f"cpu  {busy} 0 0 {idle} 0 0 0 0 0 0\ncpu0 1 2 3\n",
        f"proc/{PROCESS}/stat": f"{PROCESS} (a (b) c) R 1 1 1 0 -1 0 0 0 0 0 {own} 0 0 0 20 0 1 0 100\n",
    }


def zones(*kinds: str, degrees: float, trip: float) -> dict[str, str]:
    found = {}
    for number, kind in enumerate(kinds):
        folder = f"sys/class/thermal/thermal_zone{number}"
        found |= {
            f"{folder}/type": kind + "\n",
            f"{folder}/temp": f"{degrees * 1000:.0f}\n",
            f"{folder}/trip_point_0_type": "passive\n",
            f"{folder}/trip_point_0_temp": f"{trip * 1000:.0f}\n",
            f"{folder}/trip_point_1_type": "critical\n",
            f"{folder}/trip_point_1_temp": "105000\n",
        }
    return found


def policy(first: int, cores: int, now: int, most: int, governor: str = "schedutil", **more: str) -> dict[str, str]:
    folder = f"sys/devices/system/cpu/cpufreq/policy{first}"
    return {
        f"{folder}/related_cpus": " ".join(map(str, range(first, first + cores))) + "\n",
        f"{folder}/scaling_cur_freq": f"{now * 1000}\n",
        f"{folder}/scaling_max_freq": f"{most * 1000}\n",
        f"{folder}/scaling_governor": governor + "\n",
        **{f"{folder}/{name}": text + "\n" for name, text in more.items()},
    }


def tegra(release: str, revision: str) -> str:
    return f"# R{release} (release), REVISION: {revision}, GCID: 1, BOARD: generic, EABI: aarch64\n"


INA = "sys/bus/i2c/drivers/ina3221/1-0040/hwmon/hwmon3"
OC = "sys/class/hwmon/hwmon1"
RAIL = {
    f"{INA}/in1_label": "VDD_IN\n", f"{INA}/in1_input": "5000\n", f"{INA}/curr1_input": "2000\n",
    f"{INA}/in2_label": "VDD_CPU_GPU_CV\n", f"{INA}/in2_input": "5000\n", f"{INA}/curr2_input": "800\n",
    f"{INA}/in3_label": "NC\n", f"{INA}/in7_label": "sum of shunt voltages\n",
}  # fmt: skip
EVENTS = {f"{OC}/name": "soctherm_oc\n", **{f"{OC}/oc{n}_event_cnt": "3\n" for n in (1, 2, 3)}}
ORIN = {
    "proc/device-tree/model": "NVIDIA Jetson Orin Nano Developer Kit\0",
    **zones("cpu-thermal", "gpu-thermal", "soc0-thermal", "tj-thermal", degrees=52.5, trip=99.0),
    **policy(0, 4, 1510, 1510),
    **policy(4, 2, 1510, 1510),
    **RAIL,
    **EVENTS,
}
MODE = {"nvpmodel -q": "NV Power Mode: 15W\n0\n"}


def gpu(folder: str, name: str, now: float, most: float) -> dict[str, str]:
    place = f"sys/class/devfreq/{folder}"
    return {
        f"{place}/device/of_node/name": f"{name}\0",
        f"{place}/cur_freq": f"{now * 1e6:.0f}\n",
        f"{place}/max_freq": f"{most * 1e6:.0f}\n",
    }


ORIN_JP6 = {**ORIN, "etc/nv_tegra_release": tegra("36", "4.4"), **gpu("17000000.gpu", "ga10b", 624.75, 624.75)}
ORIN_JP7 = {**ORIN, "etc/nv_tegra_release": tegra("39", "2.0"), **gpu("17000000.gpu", "gpu", 624.75, 624.75)}
THOR = {
    "proc/device-tree/model": "NVIDIA Jetson AGX Thor Developer Kit\0",
    "etc/nv_tegra_release": tegra("38", "2.1"),
    **zones("cpu-thermal", "gpu-thermal", "tj-thermal", degrees=48.0, trip=95.0),
    **policy(0, 14, 2601, 2601),
    **gpu("gpu-gpc-0", "gpu-gpc-0", 1575, 1575),
    **RAIL,
    **EVENTS,
}
PI4 = {
    "proc/device-tree/model": "Raspberry Pi 4 Model B Rev 1.4\0",
    **zones("cpu-thermal", degrees=55.0, trip=110.0),
    **policy(0, 4, 1800, 1800, "ondemand"),
}
PI4_SAYS = {
    "vcgencmd get_throttled": "throttled=0x0\n",
    "vcgencmd measure_clock arm": "frequency(48)=1800457088\n",
}
PI5 = {
    "proc/device-tree/model": "Raspberry Pi 5 Model B Rev 1.0\0",
    **zones("cpu-thermal", degrees=58.0, trip=110.0),
    **policy(0, 4, 2400, 2400, "ondemand"),
}
PI5_SAYS = {
    "vcgencmd get_throttled": "throttled=0x0\n",
    "vcgencmd measure_clock arm": "frequency(0)=2400033792\n",
    "vcgencmd pmic_read_adc": (
        "     3V3_SYS_A current(1)=0.1A\n  VDD_CORE_A current(7)=2.0A\n     3V3_SYS_V volt(9)=3.3V\n"
        "    VDD_CORE_V volt(15)=0.9V\n       EXT5V_V volt(24)=5.1V\n"
    ),
}
COUNTS = "sys/devices/system/cpu/cpu{}/thermal_throttle"
X86 = {
    "sys/class/dmi/id/sys_vendor": "Maker\n",
    "sys/class/dmi/id/product_name": "Desk 9\n",
    **zones("x86_pkg_temp", degrees=61.0, trip=100.0),
    **policy(0, 1, 4100, 4800, "performance", scaling_driver="intel_pstate", base_frequency="3600000"),
    **policy(1, 1, 800, 4800, "performance", scaling_driver="intel_pstate", base_frequency="3600000"),
    **{f"{COUNTS.format(n)}/{w}_throttle_count": "7\n" for n in (0, 1) for w in ("core", "package")},
    "sys/class/powercap/intel-rapl:0/name": "package-0\n",
    "sys/class/powercap/intel-rapl:0/energy_uj": "1000000\n",
    "sys/class/powercap/intel-rapl:0/max_energy_range_uj": "262143328850\n",
    "sys/firmware/acpi/platform_profile": "balanced\n",
}  # fmt: skip

AMD = {
    "sys/class/dmi/id/product_name": "Desk 7\n",
    "sys/class/hwmon/hwmon0/name": "nvme\n",
    "sys/class/hwmon/hwmon0/temp1_input": "99000\n",
    "sys/class/hwmon/hwmon2/name": "k10temp\n",
    "sys/class/hwmon/hwmon2/temp1_input": "66125\n",
    **policy(0, 1, 4450, 4700, "performance", scaling_driver="amd-pstate-epp"),
}

GPU_CLOCK = "sys/class/devfreq/17000000.gpu/cur_freq"
THROTTLED, CLOCK = "vcgencmd get_throttled", "vcgencmd measure_clock arm"
ZONE0 = "sys/class/thermal/thermal_zone0"
POLICY0 = "sys/devices/system/cpu/cpufreq/policy0"

FIXTURES = {
    fixture.name: fixture
    for fixture in (
        Fixture("Orin, JetPack 6", ORIN_JP6, MODE, on_gpu=True),
        Fixture("Orin, JetPack 7", ORIN_JP7, MODE, on_gpu=True),
        Fixture("Thor, JetPack 7", THOR, MODE, on_gpu=True),
        Fixture("Pi 4", PI4, PI4_SAYS),
        Fixture("Pi 5", PI5, PI5_SAYS),
        Fixture("x86", X86),
        Fixture("x86 of AMD: no counters of throttling", AMD),
        Fixture("virtual machine: nothing told", {}),
        Fixture("Orin: overcurrent meanwhile", ORIN_JP6, MODE, later={f"{OC}/oc2_event_cnt": "5\n"}, on_gpu=True),
        Fixture("Orin: GPU held back", ORIN_JP6, MODE, later=gpu("17000000.gpu", "ga10b", 306, 624.75), on_gpu=True),
        Fixture("Orin: power mode changed", ORIN_JP6, MODE, later_commands={"nvpmodel -q": "NV Power Mode: MAXN\n2\n"}),
        Fixture("Orin: nvpmodel missing", ORIN_JP6, on_gpu=True),
        Fixture("Orin: GPU clock unreadable", {**ORIN_JP6, GPU_CLOCK: UNREADABLE}, MODE, on_gpu=True),
        Fixture("Orin: event counter runs backwards", ORIN_JP6, MODE, later={f"{OC}/oc1_event_cnt": "0\n"}),
        Fixture("Orin: event counter vanishes", ORIN_JP6, MODE, later={f"{OC}/oc1_event_cnt": MISSING}, on_gpu=True),
        Fixture("Thor: no GPU clock", {k: v for k, v in THOR.items() if "devfreq" not in k}, MODE, on_gpu=True),
        Fixture("Pi 4: throttled now", PI4, {**PI4_SAYS, THROTTLED: "throttled=0x50005\n"}),
        Fixture("Pi 4: undervoltage meanwhile", PI4, PI4_SAYS, later_commands={THROTTLED: "throttled=0x10000\n"}),
        Fixture("Pi 4: flag from before", PI4, {**PI4_SAYS, THROTTLED: "throttled=0x10000\n"}),
        Fixture("Pi 4: vcgencmd missing", PI4),
        Fixture("Pi 4: firmware lies", PI4, {**PI4_SAYS, THROTTLED: "throttled=0xffffffff\n"}),
        Fixture("Pi 4: the clock is less than asked", PI4, {**PI4_SAYS, CLOCK: "frequency(48)=600000000\n"}),
        Fixture("Pi 5: 80 C", PI5, PI5_SAYS, later={f"{ZONE0}/temp": "81000\n"}),
        Fixture("Pi 5: temperature lies", {**PI5, f"{ZONE0}/temp": "0\n"}, PI5_SAYS),
        Fixture("Pi 5: temperature unreadable", {**PI5, f"{ZONE0}/temp": UNREADABLE}, PI5_SAYS),
        Fixture("Pi 5: governor unreadable", {**PI5, f"{POLICY0}/scaling_governor": UNREADABLE}, PI5_SAYS),
        Fixture("x86: throttled meanwhile", X86, later={f"{COUNTS.format(1)}/core_throttle_count": "9\n"}),
        Fixture("x86: other programs", X86, later=load(1, others=150)),
        Fixture("x86: governor changed", X86, later={f"{POLICY0}/scaling_governor": "powersave\n"}),
        Fixture("x86: clock lies", {**X86, f"{POLICY0}/scaling_cur_freq": "4294967295000\n"}),
        Fixture("x86: temperature vanishes", X86, later={f"{ZONE0}/temp": MISSING}),
        Fixture("x86: load untold", {**X86, "proc/stat": "cpu  1 2\n"}, later={"proc/stat": "cpu  1 2\n"}),
    )
}  # fmt: skip


def table() -> str:
    """Every fixture in Markdown: what is read of it, and what the watchers conclude."""
    lines = ["| machine | hottest | clock | GPU clock | power mode | power | verdict | why |", "|" + "---|" * 8]
    for fixture in FIXTURES.values():
        with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as other:
            board, watch = fixture.board(Path(one)), fixture.looks(Path(other))
            meter = power.meter(board)
            drawn = meter and (meter.watts or meter.joules)
            cells = [
                _most(board.temperatures(), "C"),
                _most(board.cpu_clocks(), "MHz"),
                _most(board.gpu_clocks(), "MHz"),
                board.power_mode() or "-",
                f"{meter.sensor.split(':')[0].split(' of ')[0]}" if meter and drawn else "-",
                watch.condition.value,
                " ".join(reason.text for reason in watch.reasons) or "-",
            ]
        lines.append("| " + " | ".join([fixture.name, *cells]) + " |")
    return "\n".join(lines) + "\n"


def _most(sensors: object, unit: str) -> str:
    known = [value for _, value, _ in sensors if value is not None]  # type: ignore[attr-defined]
    return f"{max(known):g} {unit}" if known else "-"


if __name__ == "__main__":
    print(table(), end="")
