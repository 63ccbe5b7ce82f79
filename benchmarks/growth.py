"""How latency, export time and memory grow with input size, batch, width and number of blocks: plots and exponents.

    python benchmarks/growth.py --write      docs/growth.svg and the table of docs/performance.md; a quarter of an hour

MobileNetV2 with ULSAM, one property varied at a time. The exponent is the slope of a straight line through the
logarithms: 1 is proportional. One thread.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np
from peers import Entry, made, play

sys.path.insert(0, str(Path(__file__).parent / "peer_bench"))
from makers import CONTENDERS
from networks import POINTS

ROOT = Path(__file__).parents[1]
PAGE, PICTURE = ROOT / "docs" / "performance.md", ROOT / "docs" / "growth.svg"
BEGIN, END = "<!-- made by benchmarks/growth.py -->", "<!-- end of growth -->"
TITLES = {"size": "input side, pixels", "batch": "batch", "width": "width multiplier", "blocks": "ULSAM blocks"}
WAYS = [each for each in CONTENDERS if each.form in ("eager", "ours")]

#: By axis, value and engine.
Found = Mapping[str, Mapping[float, Mapping[str, Entry]]]


def latency(entry: Entry) -> list[float]:
    """Milliseconds of one call: each round's median."""
    return [float(np.median(each["times"]["1"])) / 1e6 for each in entry.rounds]


def memory(entry: Entry) -> list[float]:
    """The process's peak, MB."""
    return [each["peak_rss"] / 1e6 for each in entry.rounds]


def exporting(entry: Entry) -> list[float]:
    """Seconds from the module to the file, imports of the converter among them."""
    return [entry.made["seconds"]]


MEASURES: Mapping[str, Callable[[Entry], list[float]]] = {
    "one call, ms": latency,
    "export, s": exporting,
    "peak memory of the process that runs it, MB": memory,
}


def main() -> None:
    """Make, play in turns, print, and write on demand."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=0.2)
    parser.add_argument("--folder", type=Path, help="keep artifacts here, and go on from what is there")
    parser.add_argument("--make", action="store_true", help="make the artifacts and stop")
    parser.add_argument("--write", action="store_true", help=f"into docs/{PAGE.name} and docs/{PICTURE.name}")
    asked = parser.parse_args()
    with contextlib.ExitStack() as stack:
        folder = asked.folder or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        points = {
            axis: {value: made(point, folder, [1], WAYS) for value, point in values.items()}
            for axis, values in POINTS.items()
        }
        if asked.make:
            return
        for values in points.values():
            play([entry for entries in values.values() for entry in entries], asked.rounds, asked.seconds, [1])
    found = {
        axis: {value: {entry.contender.engine: entry for entry in entries} for value, entries in values.items()}
        for axis, values in points.items()
    }
    text = "\n".join(table(found))
    print(text)
    if asked.write:
        draw(found)
        before, _, rest = PAGE.read_text().partition(BEGIN)
        PAGE.write_text(f"{before}{BEGIN}\n\n{text}\n\n{END}{rest.partition(END)[2]}")


def table(found: Found) -> Iterator[str]:
    """The smallest and the largest point of every axis, and the exponent between."""
    yield "| growing | engine | " + " | ".join(f"{title} | exponent" for title in MEASURES) + " |"
    yield "|---|---|" + "---|---|" * len(MEASURES)
    for axis, values in found.items():
        for engine in next(iter(values.values())):
            cells = []
            for measure in MEASURES.values():
                series = [float(np.median(measure(entries[engine]))) for entries in values.values()]
                slope = np.polyfit(np.log(list(values)), np.log(series), 1)[0]
                cells += [f"{series[0]:.3g} - {series[-1]:.3g}", f"{slope:.2f}"]
            ends = f"{TITLES[axis]}, {min(values):g} - {max(values):g}"
            yield f"| {ends} | {engine} | {' | '.join(cells)} |"


def draw(found: Found) -> None:
    """One column an axis, one row a measure; both scales logarithmic, the same bytes for the same figures."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "growth"
    from matplotlib import pyplot

    figure, rows = pyplot.subplots(len(MEASURES), len(found), figsize=(13, 8), sharey="row", layout="constrained")
    for row, (title, measure) in zip(rows, MEASURES.items()):
        for axes, (axis, values) in zip(row, found.items()):
            for engine in next(iter(values.values())):
                series = [measure(entries[engine]) for entries in values.values()]
                axes.plot(list(values), [np.median(each) for each in series], marker="o", label=engine)
                axes.fill_between(
                    list(values), [min(each) for each in series], [max(each) for each in series], alpha=0.2
                )
            axes.set(xscale="log", yscale="log", xlabel=TITLES[axis], xticks=list(values))
            axes.set_xticks([], minor=True)
            axes.set_xticklabels([f"{value:g}" for value in values])
            axes.grid(alpha=0.3)
        row[0].set_ylabel(title.replace(" of the", "\nof the"))
    rows[1][0].legend(loc="center left")  # between fast and slow exports, where no line passes
    figure.savefig(PICTURE, metadata={"Date": None})


if __name__ == "__main__":
    main()
