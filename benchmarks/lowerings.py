"""Which form of the attention is fastest, by engine and geometry: makes the table that exporters look into.

    python benchmarks/lowerings.py --make --folder DIR      make the artifacts; a quarter of an hour
    python benchmarks/lowerings.py --write --folder DIR     time them: exporters/lowerings.json, docs/lowerings.md

The block stands between two 1x1 convolutions, in every geometry that MobileNetV1 and V2 have at 224 and 96, and in
those of the reference network. All forms of one geometry are timed in turns, one thread. A form takes the place of the
first one where the interval of the ratio lies below one; of several such, the one with the smallest ratio.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).parent / "peer_bench"))
from tables import cpu

from ulsam_deploy.device import plugins
from ulsam_deploy.device.bench.intervals import Interval, log_times, paired
from ulsam_deploy.device.bench.measure import collect, warm_up
from ulsam_deploy.device.third_party import versions
from ulsam_deploy.device.types import Artifact, Block
from ulsam_deploy.exporters.lowerings import FORMS, TABLE
from ulsam_deploy.graph import capture, fuse_attention, lower
from ulsam_deploy.graph.interfaces import ExportRequest
from ulsam_deploy.models.ulsam import ULSAM

PAGE = Path(__file__).parents[1] / "docs" / "lowerings.md"
BEGIN, END = "<!-- made by benchmarks/lowerings.py -->", "<!-- end -->"
ENGINES = {"onnx": "onnxruntime", "openvino": "openvino", "tflite": "tflite"}
#: Channels and map side at 224 of MobileNetV1's and V2's layers, and of the reference network's blocks at 96.
V1 = ((64, 112), (128, 56), (256, 28), (512, 14), (1024, 7))
V2 = ((16, 112), (24, 56), (32, 28), (64, 14), (96, 14), (160, 7), (320, 7))
REFERENCE = ((8, 24), (16, 12), (24, 6), (32, 6))
SIDES = ((112, 48), (56, 24), (28, 12), (14, 6), (7, 3))
ROUNDS, SECONDS = 9, 0.03


def geometries() -> Iterator[Block]:
    """Four subspaces everywhere, as in the paper's best rows."""
    smaller = dict(SIDES)
    for channels, side in (*V1, *V2, *((c, smaller[s]) for c, s in (*V1, *V2)), *REFERENCE):
        yield Block("", channels, 4, side, side)


def main() -> None:
    """Make, time, and write on demand."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True, help="artifacts are kept here")
    parser.add_argument("--make", action="store_true", help="make the artifacts and stop")
    parser.add_argument("--write", action="store_true", help=f"{TABLE.name} and docs/{PAGE.name}")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    places = [
        (target, block, made(target, block, asked.folder / target / block.geometry.replace("/", "-").replace(" ", "-")))
        for target in FORMS
        for block in geometries()
    ]
    if asked.make:
        return
    ratios = {(target, block.geometry): timed(target, block, forms) for target, block, forms in places}
    chosen: dict[str, dict[str, str]] = {target: {} for target in FORMS}
    for (target, geometry), found in ratios.items():
        if (best := fastest(found)) is not None:
            chosen[target][geometry] = best
    text = "\n".join(page(ratios, chosen))
    print(text)
    if asked.write:
        TABLE.write_text(json.dumps({"made_by": "benchmarks/lowerings.py", "forms": chosen}, indent=1) + "\n")
        before, _, rest = PAGE.read_text().partition(BEGIN)
        PAGE.write_text(f"{before}{BEGIN}\n\n{text}\n\n{END}{rest.partition(END)[2]}")


def made(target: str, block: Block, place: Path) -> dict[str, Artifact]:
    """The artifact of every form, in a folder of its own under ``place``; whoever has a ``done`` is there already."""
    torch.manual_seed(0)
    channels = block.channels
    network = nn.Sequential(
        nn.Conv2d(channels, channels, 1), ULSAM(channels, block.subspaces), nn.Conv2d(channels, channels, 1)
    )
    captured = capture(network.eval(), [(channels, block.height, block.width)], 1)
    exporter, found = plugins.load(plugins.EXPORTERS, target), {}
    fused = None
    for name in FORMS[target]:
        folder = place / name
        if not (folder / "done").exists():
            fused = fused or fuse_attention(captured)
            folder.mkdir(parents=True, exist_ok=True)
            request = ExportRequest(lowerings=((block.geometry, name),))
            artifact = exporter.export(lower(fused, exporter.lowering(request)), request, folder)
            (folder / "done").write_text(json.dumps([list(artifact.files), artifact.inputs[0].layout]))
        files, layout = json.loads((folder / "done").read_text())
        ports = [
            [type(spec)(spec.name, spec.shape, layout=layout) for spec in specs]
            for specs in (captured.inputs, captured.outputs)
        ]
        found[name] = Artifact(
            target, "fp32", tuple(os.fspath(folder / f) for f in files), *map(tuple, ports), None, {}
        )  # type: ignore[arg-type]
    return found


def timed(target: str, block: Block, forms: dict[str, Artifact]) -> dict[str, Interval]:
    """The time of every form over that of the first, in turns."""
    engine: Any = plugins.load(plugins.RUNTIMES, ENGINES[target])
    feed = np.random.default_rng(0).normal(size=(1, block.channels, block.height, block.width)).astype(np.float32)
    runs, sessions = {}, []
    for name, artifact in forms.items():
        session = engine([Path(file) for file in artifact.files], artifact.inputs, artifact.outputs, threads=1)
        sessions.append(session.__enter__())
        runs[name] = session.prepared({artifact.inputs[0].name: feed})
        warm_up(runs[name], 3, SECONDS)
    times: dict[str, list[Any]] = {name: [] for name in runs}
    for number in range(ROUNDS):
        for name in list(runs)[:: 1 if number % 2 else -1]:
            times[name].append(collect(runs[name], SECONDS, 5))
    for session in sessions:
        session.__exit__(None, None, None)
    first = log_times(times[next(iter(forms))])
    print(target, block.geometry, file=sys.stderr, flush=True)
    return {name: paired(log_times(each) - first) for name, each in times.items()}


def fastest(ratios: dict[str, Interval]) -> str | None:
    """The form that surely beats the first one by most; ``None`` where none does."""
    sure = {name: ratio for name, ratio in ratios.items() if ratio.high is not None and ratio.high < 1.0}
    return min(sure, key=lambda name: sure[name].estimate) if sure else None


def page(ratios: dict[tuple[str, str], dict[str, Interval]], chosen: dict[str, dict[str, str]]) -> Iterator[str]:
    """A table a target: ratios with their intervals, the chosen form in bold."""
    known = versions("onnxruntime", "openvino", "ai-edge-litert")
    engines = ", ".join(f"{name} {version}" for name, version in known.items())
    yield f"{cpu()}, one thread, Python {platform.python_version()}, {engines}."
    for target, forms in FORMS.items():
        first, *others = forms
        yield f"\n### {target}\n\nTime over that of `{first}`:\n"
        yield f"| channels/subspaces, map | {' | '.join(others)} | chosen |"
        yield "|---" * (len(others) + 2) + "|"
        for (name, geometry), found in ratios.items():
            if name == target:
                cells = [
                    f"{r.estimate:.2f} ({r.low:.2f} - {r.high:.2f})" if r.low and r.high else f"{r.estimate:.2f}"
                    for r in (found[other] for other in others)
                ]
                yield f"| {geometry} | {' | '.join(cells)} | {chosen[target].get(geometry, first)} |"


if __name__ == "__main__":
    main()
