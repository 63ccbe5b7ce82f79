"""What 1,000 checkpoints a day for 10,000 devices cost: measured per-task figures, arithmetic, and a simulation.

python benchmarks/scale.py                        from the stages that docs/performance.md records
python benchmarks/scale.py SWEEP.sweep/report.json    from a sweep's report: what tasks took on one worker
python benchmarks/scale.py --write                put the tables into docs/scale.md as well
"""

from __future__ import annotations

import argparse
import heapq
import json
import random
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

BEGIN, END = "<!-- made by benchmarks/scale.py -->", "<!-- end -->"
PAGE = Path(__file__).parents[1] / "docs" / "scale.md"

STAGES, TARGETS = PAGE.with_name("performance.md"), ("onnx", "openvino", "tflite")
#: Bytes of that network's checkpoint in float32.
WEIGHTS = 10_750_427

CHECKPOINTS, DEVICES, KEPT_DAYS = 1_000, 10_000, 30
#: Checkpoints do not come evenly: so many of them in the busiest hour of the day.
BUSIEST = 0.20
#: What a device downloads in a day at most: one new artifact. A link that serves them, in bits per second.
LINK = 1e9
#: One worker in so many hours dies (spot instances), and is replaced after so many seconds.
MEAN_LIFE, REPLACED = 24 * 3600.0, 180.0


@dataclass(frozen=True)
class Figures:
    """Measured: seconds of the first task of a checkpoint and of the others (the reference is cached), and sizes."""

    first: tuple[float, ...]
    others: tuple[float, ...]
    peak: float
    artifact: float
    bundle: float
    cells: int

    @property
    def seconds(self) -> float:
        """Of one checkpoint: all its cells, on one worker."""
        return statistics.mean(self.first) + (self.cells - 1) * statistics.mean(self.others or self.first)


def recorded() -> Figures:
    """The figures out of the measured stages of MobileNetV2 with ULSAM at 224, for ONNX, OpenVINO and TFLite.

    A cell whose reference is cached loads, captures, raises and exports. Sizes are computed: the weights in float32,
    and a golden set of 24 images of 3 x 224 x 224 beside them.
    """
    rows = [line.split("|")[1:4] for line in STAGES.read_text().splitlines() if line.count("|") == 4]
    found = {name.strip().split(":")[0]: (seconds.strip(), peak.strip()) for name, seconds, peak in rows}
    seconds = {name: float(found[name][0]) for name in ("load", "capture", "fuse and prove", "reference", *TARGETS)}
    again = seconds["load"] + seconds["capture"] + seconds["fuse and prove"]
    return Figures(
        first=(again + seconds["reference"] + seconds[TARGETS[0]],),
        others=tuple(again + seconds[target] for target in TARGETS[1:]),
        peak=max(float(found[target][1]) for target in TARGETS) * 2**20,
        artifact=WEIGHTS,
        bundle=WEIGHTS + 24 * 3 * 224 * 224 * 4,
        cells=len(TARGETS),
    )


def measured(path: Path) -> Figures:
    """The figures out of a sweep's report, with the bundles that lie beside it."""
    cells = json.loads(path.read_text())["cells"]
    taken: dict[tuple[str, ...], list[float]] = {}  # what shares a reference
    for cell in cells:
        found = cell["found"]
        taken.setdefault((found["sha256"], found["input"], found["precision"]), []).append(cell["run"]["seconds"])
    bundles = [path.parent / cell["bundle"] for cell in cells if cell["bundle"]]
    return Figures(
        first=tuple(max(times) for times in taken.values()),
        others=tuple(time for times in taken.values() for time in sorted(times)[:-1]),
        peak=max(cell["run"]["peak"] for cell in cells),
        artifact=statistics.mean(cell["found"]["bytes"] for cell in cells),
        bundle=statistics.mean(file.stat().st_size for file in bundles),
        cells=max(map(len, taken.values())),
    )


@dataclass(frozen=True)
class Day:
    """What a simulated day looked like; waits in seconds."""

    workers: int
    busy: float
    median: float
    worst: float
    lost: int


def day(figures: Figures, workers: int, seed: int = 1) -> Day:
    """A day of checkpoints on ``workers`` that die at random; a lost task is begun again, as a sweep does it.

    First come, first served. Tasks take times drawn from those measured; ``wait`` is from a checkpoint's arrival to
    its last cell.
    """
    chance = random.Random(seed)
    arrivals = sorted(_arrival(chance) for _ in range(CHECKPOINTS))
    free = [(0.0, chance.expovariate(1 / MEAN_LIFE)) for _ in range(workers)]  # when free, when it dies
    heapq.heapify(free)
    waits, busy, lost = [], 0.0, 0
    for arrived in arrivals:
        ends = []
        for cell in range(figures.cells):
            length = chance.choice(figures.first if cell == 0 else figures.others or figures.first)
            while True:
                ready, death = heapq.heappop(free)
                start = max(ready, arrived)
                while death <= start:  # it died while it had nothing to do
                    start, death = max(start, death + REPLACED), death + REPLACED + chance.expovariate(1 / MEAN_LIFE)
                if start + length <= death:
                    heapq.heappush(free, (start + length, death))
                    break
                lost, busy = lost + 1, busy + death - start
                heapq.heappush(free, (death + REPLACED, death + REPLACED + chance.expovariate(1 / MEAN_LIFE)))
            busy += length
            ends.append(start + length)
        waits.append(max(ends) - arrived)
    span = max(86400.0, max(free)[0])
    return Day(workers, busy / (workers * span), statistics.median(waits), max(waits), lost)


def _arrival(chance: random.Random) -> float:
    """A second of the day: the busiest hour is the twelfth."""
    return 43200 + 3600 * chance.random() if chance.random() < BUSIEST else 86400 * chance.random()


def tables(figures: Figures) -> str:
    """Costs, then the simulation."""
    work = CHECKPOINTS * figures.seconds
    made = CHECKPOINTS * figures.cells * figures.bundle
    sent = DEVICES * figures.artifact
    rows: list[tuple[str, str]] = [
        ("first cell of a checkpoint, with its float64 reference", _spread(figures.first)),
        ("each further cell of it", _spread(figures.others or figures.first)),
        ("largest memory of a worker", f"{figures.peak / 2**30:.2f} GiB"),
        (
            "one bundle (one target) / one artifact in it",
            f"{figures.bundle / 1e6:.3f} / {figures.artifact / 1e6:.3f} MB",
        ),
        (f"work for {CHECKPOINTS:,} checkpoints of {figures.cells} cells", f"{work / 3600:.1f} worker hours a day"),
        ("workers that are never idle", f"{work / 86400:.2f}"),
        ("kept results", f"{made / 1e9:.2f} GB a day, {KEPT_DAYS * made / 1e9:.1f} GB in {KEPT_DAYS} days"),
        ("objects", f"{CHECKPOINTS * figures.cells * 3:,} a day"),
        (f"one artifact to each of {DEVICES:,} devices", f"{sent / 1e9:.2f} GB, {8 * sent / LINK:.0f} s of 1 Gbit/s"),
    ]
    lines = ["| figure | value |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows), ""]
    lines += ["| workers | busy | median wait | longest wait | tasks lost and done again |", "|---|---|---|---|---|"]
    least = max(1, round(work / 86400))
    for workers in sorted({least, least + 1, 2 * least, 4 * least, 8 * least}):
        found = day(figures, workers)
        lines.append(
            f"| {workers} | {100 * found.busy:.0f} % | {_time(found.median)} | {_time(found.worst)} | {found.lost} |"
        )
    return "\n".join(lines)


def _spread(times: Sequence[float]) -> str:
    return f"{statistics.mean(times):.1f} s ({min(times):.1f} to {max(times):.1f}, {len(times)} tasks)"


def _time(seconds: float) -> str:
    return (
        f"{seconds:.0f} s"
        if seconds < 120
        else f"{seconds / 60:.0f} min"
        if seconds < 7200
        else f"{seconds / 3600:.1f} h"
    )


def main() -> None:
    """Read the report, print, write."""
    parser = argparse.ArgumentParser(description="What many checkpoints and many devices cost.")
    parser.add_argument("report", type=Path, nargs="?", help="report.json of a sweep")
    parser.add_argument("--write", action="store_true", help=f"put the tables into {PAGE.name}")
    arguments = parser.parse_args()
    text = tables(measured(arguments.report) if arguments.report else recorded())
    print(text)
    if arguments.write:
        before, _, rest = PAGE.read_text().partition(BEGIN)
        PAGE.write_text(f"{before}{BEGIN}\n\n{text}\n\n{END}{rest.partition(END)[2]}")


if __name__ == "__main__":
    main()
