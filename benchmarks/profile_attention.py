"""What remains above the backbone: where ONNX Runtime and OpenVINO spend the time that attention adds, by operator.

    python benchmarks/profile_attention.py --write [--folder DIR]      the section of docs/performance.md; two minutes

The artifacts are those of benchmarks/peers.py; a ``--folder`` that it has filled saves the making. The engines' own
profilers read a clock around every operator, which small operators feel: the shares mean more than the sums. One
thread; each figure is the median over fresh sessions, all networks by turns. LiteRT's Python package has
no profiler.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from peers import Entry, made

sys.path.insert(0, str(Path(__file__).parent / "peer_bench"))
from makers import CONTENDERS
from networks import BACKBONE, GROUPS, PLACED
from tables import cpu

from ulsam_deploy.device.bench.turns import order

PAGE = Path(__file__).parents[1] / "docs" / "performance.md"
BEGIN, END = "<!-- made by benchmarks/profile_attention.py -->", "<!-- end of the profile -->"
#: Calls of one session that are counted, after as many that are not.
CALLS = 30

#: Milliseconds of one call by kind of operator.
Profile = Mapping[str, float]


def onnxruntime(path: Path, feed: np.ndarray[Any, Any]) -> Profile:
    """By operator type, fusions included: what the session runs after its own optimizations."""
    import onnxruntime as engine

    with tempfile.TemporaryDirectory() as folder:
        options = engine.SessionOptions()
        options.enable_profiling, options.profile_file_prefix = True, f"{folder}/profile"
        options.intra_op_num_threads = 1
        session = engine.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        for _ in range(2 * CALLS):
            session.run(None, {session.get_inputs()[0].name: feed})
        events = json.loads(Path(session.end_profiling()).read_text())
    spent: dict[str, list[float]] = {}
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
            spent.setdefault(event["name"] + "\n" + event["args"]["op_name"], []).append(event["dur"] / 1e3)
    return _by_kind((name.partition("\n")[2], float(np.median(times[CALLS:]))) for name, times in spent.items())


def openvino(path: Path, feed: np.ndarray[Any, Any]) -> Profile:
    """By type of the primitive that the CPU plugin runs."""
    from ulsam_deploy.device.third_party import load_openvino

    config = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1, "PERF_COUNT": True}
    request = load_openvino().Core().compile_model(str(path), "CPU", config).create_infer_request()
    spent: dict[tuple[str, str], list[float]] = {}
    for _ in range(2 * CALLS):
        request.infer([feed])
        for node in request.profiling_info:
            spent.setdefault((node.node_name, node.node_type), []).append(node.real_time.total_seconds() * 1e3)
    return _by_kind((kind, float(np.median(times[CALLS:]))) for (_, kind), times in spent.items())


PROFILERS = {"ONNX Runtime": onnxruntime, "OpenVINO": openvino}


def _by_kind(spent: Iterator[tuple[str, float]]) -> Profile:
    found: dict[str, float] = {}
    for kind, milliseconds in spent:
        found[kind] = found.get(kind, 0.0) + milliseconds
    return found


def main() -> None:
    """Make what is missing, profile in turns, print, and write on demand."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--group", action="append", choices=sorted(GROUPS), help="default: both MobileNets at 224")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--folder", type=Path, help="where benchmarks/peers.py kept its artifacts, or may now")
    parser.add_argument("--write", action="store_true", help=f"into docs/{PAGE.name}")
    asked = parser.parse_args()
    lines = [f"{cpu()}, one thread, milliseconds of one call; medians of {asked.rounds} sessions."]
    with contextlib.ExitStack() as stack:
        folder = asked.folder or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        known = [each for each in CONTENDERS if each.form == "eager" or _is_profiled(each.engine, each.form)]
        for name in asked.group or ("mobilenet_v1 224", "mobilenet_v2 224"):
            entries = made(GROUPS[name], folder, [1], known)
            for engine in PROFILERS:
                those = [entry for entry in entries if entry.contender.engine == engine and not entry.failed]
                chosen = [entry for entry in those if (entry.network, entry.contender.form) != (PLACED, "naive")]
                lines += ["", f"**{name}, {engine}**", "", *table(profiles(chosen, asked.rounds))]
    text = "\n".join(lines)
    print(text)
    if asked.write:
        before, _, rest = PAGE.read_text().partition(BEGIN)
        PAGE.write_text(f"{before}{BEGIN}\n\n{text}\n\n{END}{rest.partition(END)[2]}")


def _is_profiled(engine: str, form: str) -> bool:
    return engine in PROFILERS and form in ("ours", "naive")


def profiles(entries: Sequence[Entry], rounds: int) -> dict[str, Profile]:
    """Of the backbone, of ULSAM after every block, naive and ours, and in place of layers; opened anew each round."""
    found: list[list[Profile]] = [[] for _ in entries]
    for _, _, which in order(len(entries), rounds):
        entry = entries[which]
        profiler = PROFILERS[entry.contender.engine]
        found[which].append(profiler(entry.folder / entry.made["file"], np.load(entry.folder / "feed.npy")))
    return {_column(entry): _middle(rows) for entry, rows in zip(entries, found)}


def _column(entry: Entry) -> str:
    return entry.contender.form if entry.network not in (BACKBONE, PLACED) else entry.network


def _middle(rows: Sequence[Profile]) -> Profile:
    return {kind: float(np.median([row.get(kind, 0.0) for row in rows])) for kind in set().union(*rows)}


def table(found: Mapping[str, Profile]) -> Iterator[str]:
    """A row for each kind of operator that changes by a hundredth of the backbone or more, largest addition first."""
    base = found[BACKBONE]
    others = [found[column] for column in ("naive", "ours", PLACED)]
    yield "| operator | backbone | after every block: naive adds | ours adds | in place of layers: ours adds |"
    yield "|---|---|---|---|---|"
    kinds = {*base, *(kind for other in others for kind in other)}
    for kind in sorted(kinds, key=lambda kind: (base.get(kind, 0.0) - others[1].get(kind, 0.0), kind)):
        added = [other.get(kind, 0.0) - base.get(kind, 0.0) for other in others]
        if max(map(abs, added)) > sum(base.values()) / 100:
            yield f"| {kind} | {base.get(kind, 0.0):.2f} | {' | '.join(f'{one:+.2f}' for one in added)} |"
    whole = sum(base.values())
    sums = " | ".join(f"{sum(other.values()) - whole:+.2f}" for other in others)
    yield f"| all | {whole:.2f} | {sums} |"


if __name__ == "__main__":
    main()
