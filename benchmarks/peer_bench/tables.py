"""docs/peers.md out of the rounds: one table a backbone, then what the aims ask for, then the roofs."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from networks import BACKBONE, EVERYWHERE, PLACED
from roofline import measured, need

from ulsam_deploy.device.bench.intervals import Interval, log_times, paired
from ulsam_deploy.device.third_party import versions

__all__ = ["cpu", "page"]

ENGINES = ("ONNX Runtime", "OpenVINO", "LiteRT")
PACKAGES = ("torch", "onnxruntime", "openvino", "ai-edge-litert", "litert-torch", "executorch", "iree-base-compiler")
#: Two-sided 95 %.
CONFIDENCE = 0.975


def page(groups: Sequence[Sequence[Any]], threads: Sequence[int]) -> str:
    """The page; ``groups`` holds the entries of one backbone each, after their rounds."""
    found = list(_header(len(groups[0][0].rounds)))
    found += ["", "## Aims", "", *_substituted(groups, threads), "", *_overhead(groups, threads)]
    found += ["", *_slower(groups, threads), "", "## Everything"]
    for entries in groups:
        found += ["", f"### {entries[0].group.name}", "", *_whole(entries, threads)]
    found += ["", "## What this CPU could do at most", "", *_roofs(groups, threads)]
    return "\n".join(found) + "\n"


def _header(rounds: int) -> Iterator[str]:
    known = ", ".join(f"{name} {version}" for name, version in versions(*PACKAGES).items())
    yield "# Against what people would use instead"
    yield ""
    yield f"""Made by `python benchmarks/peers.py --write`: {cpu()}, {len(os.sched_getaffinity(0))} cores,
Python {platform.python_version()}, {known}.
Every way to run a network had a fresh process in each of {rounds} rounds, forwards and backwards by turns. Times are
medians; in brackets is a 95 % interval over rounds (processes), never over single calls. "naive" is what its tool makes
of the module as it is written; "ours" is this project's artifact, fp32. Naive and ours of one engine are opened by the
same code with the same settings. "backbone" is the network without ULSAM by our pipeline: the floor that attention
cannot beat. Weights are random but for the reference network. Every answer was compared with PyTorch's before anything
was timed. "of ours": over our artifact for the same engine, or else over our ONNX Runtime one; above 1, ours is
faster."""


def cpu() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _times(entry: Any, threads: int) -> Any:
    """The logarithm of each round's median, in milliseconds."""
    return log_times([np.array(each["times"][str(threads)]) / 1e6 for each in entry.rounds])


def _median(entry: Any, threads: int) -> float:
    return float(np.exp(np.median(_times(entry, threads))))


def _ratio(entry: Any, other: Any, threads: int) -> Interval:
    return paired(_times(entry, threads) - _times(other, threads), CONFIDENCE)


def _words(ratio: Interval) -> str:
    known = ratio.low is not None and ratio.high is not None
    return f"{ratio.estimate:.2f}" + (f" ({ratio.low:.2f} - {ratio.high:.2f})" if known else "")


def _pick(entries: Iterable[Any], network: str, engine: str, form: str) -> Any:
    for entry in entries:
        if (entry.network, entry.contender.engine, entry.contender.form) == (network, engine, form):
            return entry
    return None


def _whole(entries: Sequence[Any], threads: Sequence[int]) -> Iterator[str]:
    """A row a contender and network; ratios are to ours of the same engine, else to our ONNX Runtime artifact."""
    columns = ["network", "run by", *(f"{n} thread{'s' * (n > 1)}, ms | of ours" for n in threads)]
    columns += ["load, ms", "first call, ms", "peak, MB", "file, MB", "made in, s"]
    yield f"| {' | '.join(columns)} |"
    yield "|---" * (len(columns) + len(threads)) + "|"
    for entry in entries:
        name = f"{entry.network} | {entry.contender.name}"
        if entry.failed:
            yield f"| {name} | {entry.failed[:160].replace('|', '/')} |"
            continue
        same = _pick(entries, entry.network, entry.contender.engine, "ours")
        ours = same or _pick(entries, entry.network, "ONNX Runtime", "ours")
        cells = []
        for count in threads:
            cells += [f"{_median(entry, count):.2f}", "1" if entry is ours else _words(_ratio(entry, ours, count))]
        load, first, peak = (
            float(np.median([each[key] for each in entry.rounds])) for key in ("load_ms", "first_ms", "peak_rss")
        )
        cells += [f"{load:.0f}", f"{first:.1f}", f"{peak / 1e6:.0f}", f"{entry.made['size'] / 1e6:.2f}"]
        yield f"| {name} | {' | '.join(cells)} | {entry.made['seconds']:.1f} |"


def _substituted(groups: Sequence[Sequence[Any]], threads: Sequence[int]) -> Iterator[str]:
    yield "**Layers substituted: the network's time over its backbone's.** Aim: at most 0.80 for MobileNetV2."
    yield ""
    yield f"| backbone | substituted | engine | {' | '.join(f'{n} thread(s)' for n in threads)} |"
    yield "|---" * (3 + len(threads)) + "|"
    for entries in groups:
        for engine in ENGINES if entries[0].group.substituted else ():
            ours, floor = (_pick(entries, network, engine, "ours") for network in (PLACED, BACKBONE))
            cells = [_words(_ratio(ours, floor, count)) for count in threads]
            yield f"| {entries[0].group.name} | {entries[0].group.substituted} | {engine} | {' | '.join(cells)} |"


def _overhead(groups: Sequence[Sequence[Any]], threads: Sequence[int]) -> Iterator[str]:
    """What attention after every block adds to the backbone."""
    yield "**ULSAM after every block: what it adds to the backbone, ours over naive.** Aim: at most half."
    yield ""
    yield "| backbone | engine | threads | backbone, ms | naive adds, ms | ours adds, ms | ours / naive |"
    yield "|---|---|---|---|---|---|---|"
    for entries in groups:
        for engine in ENGINES if EVERYWHERE in entries[0].group.networks else ():
            floor = _pick(entries, BACKBONE, engine, "ours")
            naive, ours = (_pick(entries, EVERYWHERE, engine, form) for form in ("naive", "ours"))
            for count in threads:
                base, mine = _median(floor, count), _median(ours, count)
                name = f"| {entries[0].group.name} | {engine} | {count} | {base:.2f} |"
                added, share = "does not convert", "-"
                if not naive.failed:
                    added, share = f"{_median(naive, count) - base:.2f}", _share(ours, naive, floor, count)
                yield f"{name} {added} | {mine - base:.2f} | {share} |"


def _share(ours: Any, naive: Any, floor: Any, threads: int) -> str:
    """Ours over naive of what is above the floor, round by round."""
    mine, theirs, base = (np.exp(_times(each, threads)) for each in (ours, naive, floor))
    if (mine <= base).any() or (theirs <= base).any():
        return "within noise"
    return _words(paired(np.log(mine - base) - np.log(theirs - base), CONFIDENCE))


def _slower(groups: Sequence[Sequence[Any]], threads: Sequence[int]) -> Iterator[str]:
    yield "**Never slower than another on the same engine.** Where the interval says that the naive form is faster:"
    yield ""
    found = [
        f"* {entry.group.name}, {entry.network}, {entry.contender.engine}, {count} thread(s): {_words(ratio)} of ours"
        for entries in groups
        for entry in entries
        if entry.contender.form == "naive" and entry.contender.engine in ENGINES and not entry.failed
        for count in threads
        for ratio in [_ratio(entry, _pick(entries, entry.network, entry.contender.engine, "ours"), count)]
        if ratio.high is not None and ratio.high < 1
    ]
    yield from found or ["* nowhere"]


def _roofs(groups: Sequence[Sequence[Any]], threads: Sequence[int]) -> Iterator[str]:
    roofs = {count: measured(count) for count in threads}
    for count, roof in roofs.items():
        yield f"* {count} thread(s): {roof.macs / 1e9:.0f} G multiply-adds/s, {roof.bandwidth / 1e9:.1f} GB/s."
    yield ""
    bounds = (f"bound, {n} thread(s), ms | fastest of ours, ms" for n in threads)
    yield f"| network | multiply-adds, M | weights, MB | {' | '.join(bounds)} |"
    yield "|---" * (3 + 2 * len(threads)) + "|"
    for entries in groups:
        group = entries[0].group
        for network in group.networks:
            needed = need(group.build(network), group.shape)
            cells = []
            for count, roof in roofs.items():
                best = min(_median(_pick(entries, network, engine, "ours"), count) for engine in ENGINES)
                cells += [f"{needed.bound(roof):.3f}", f"{best:.2f}"]
            name = f"{group.name}, {network} | {needed.macs / 1e6:.1f} | {needed.weights / 1e6:.2f}"
            yield f"| {name} | {' | '.join(cells)} |"
