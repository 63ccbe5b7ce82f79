"""Our artifacts against what people would use instead: latency, load, memory and size, in turns, with intervals.

    pip install '.[peers]'                       ExecuTorch and IREE; without them they are missing from the tables
    python benchmarks/peers.py --write           everything, into docs/peers.md; an hour, half of it for compilers
    python benchmarks/peers.py --group "mobilenet_v2 224" --folder DIR        one backbone; keep what was made
    python benchmarks/peers.py --make --folder DIR                            make the artifacts only

Every round gives every contender a fresh process, forwards and backwards by turns. Aims: never slower than another on
the same engine; what ULSAM adds to its backbone at most half of what the naive export adds, where it follows every
block; the network with substituted layers at most 0.80 of its backbone's time.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, os.fspath(Path(__file__).parent / "peer_bench"))

from makers import CONTENDERS, Contender
from networks import BACKBONE, GROUPS, Group
from tables import page

from ulsam_deploy.device.bench.turns import order

HERE = Path(__file__).parent / "peer_bench"
PAGE = Path(__file__).parents[1] / "docs" / "peers.md"
#: The answer of a contender may differ from PyTorch's by this share of its largest value: else it isn't the network.
SAME = 1e-3
#: Engines that this project ships for, and PyTorch itself: compared everywhere. The others take minutes to compile a
#: network, and are compared at full size only.
SHIPPED = ("PyTorch", "ONNX Runtime", "OpenVINO", "LiteRT")
EVERYBODY = ("reference", "mobilenet_v1 224", "mobilenet_v2 224")
#: Seconds for making an artifact, and for its first start.
PATIENCE = 300


@dataclass
class Entry:
    """A contender with one network: what was made of it, and its rounds, or why there are none."""

    group: Group
    network: str
    contender: Contender
    folder: Path
    made: dict[str, Any] = field(default_factory=dict)
    rounds: list[dict[str, Any]] = field(default_factory=list)
    failed: str = ""


def main() -> None:
    """Make, play in turns, and print the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=6, help="fresh processes each; 6 are the fewest for an interval")
    parser.add_argument("--seconds", type=float, default=0.25, help="of samples a process and number of threads")
    parser.add_argument("--group", action="append", choices=sorted(GROUPS), help="default: all")
    parser.add_argument("--folder", type=Path, help="keep artifacts and rounds here, and go on from what is there")
    parser.add_argument("--make", action="store_true", help="make the artifacts and stop")
    parser.add_argument("--write", action="store_true", help=f"into docs/{PAGE.name}")
    asked = parser.parse_args()
    threads = sorted({1, len(os.sched_getaffinity(0))})
    with contextlib.ExitStack() as stack:
        folder = asked.folder or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = os.fspath(folder / "inductor")
        found = []
        for name in asked.group or GROUPS:
            few = [each for each in CONTENDERS if each.engine in SHIPPED and each.form != "torch.compile"]
            known = CONTENDERS if name in EVERYBODY else few
            entries = made(GROUPS[name], folder, threads, known)
            if not asked.make:
                play(entries, asked.rounds, asked.seconds, threads)
            found.append(entries)
        if not asked.make:
            text = page(found, threads)
            print(text)
            if asked.write:
                PAGE.write_text(text)


def made(group: Group, folder: Path, threads: list[int], contenders: Sequence[Contender] = CONTENDERS) -> list[Entry]:
    """Every contender's artifact of every network of ``group``, answering as PyTorch does."""
    entries = [
        Entry(group, network, contender, folder / _plain(group.name) / _plain(network) / _plain(contender.name))
        for network in group.networks
        for contender in contenders
        if network != BACKBONE or contender.form in ("eager", "ours")
    ]
    with ThreadPoolExecutor(threads[-1]) as pool:  # each is a process of its own
        for entry in pool.map(lambda entry: _make(entry, threads), entries):
            print(f"{group.name}, {entry.network}: {entry.contender.name}: {entry.failed or 'made'}", file=sys.stderr)
    right = {entry.network: entry.made["answer"] for entry in entries if entry.contender.form == "eager"}
    for entry in entries:
        if not entry.failed:
            answer, truth = np.array(entry.made["answer"]), np.array(right[entry.network])
            error = float(np.abs(answer - truth).max() / np.abs(truth).max())
            entry.failed = f"computes something else: off by {error:.1e} of the largest output" if error > SAME else ""
    return entries


def _plain(name: str) -> str:
    return "".join(letter for letter in name if letter.isalnum() or letter in "._-")


def _make(entry: Entry, threads: list[int]) -> Entry:
    """Make and play once, which also fills caches that a second start finds; unless both are there already."""
    said = entry.folder / "played.json"
    if not said.exists():
        entry.folder.mkdir(parents=True, exist_ok=True)
        place = [entry.group.name, entry.network, entry.contender.name, os.fspath(entry.folder)]
        done = _process([HERE / "makers.py", *place])
        made = entry.folder / "made.json"
        made_of_it = json.loads(made.read_text()) if made.exists() else {"failed": _last(done)}
        if "failed" not in made_of_it:
            first = _play(entry, made_of_it["file"], 0.0, threads)
            made_of_it |= {"failed": first["failed"]} if "failed" in first else {"answer": first["answer"]}
        said.write_text(json.dumps(made_of_it))
    entry.made = json.loads(said.read_text())
    entry.failed = entry.made.get("failed", "")
    return entry


def play(entries: list[Entry], rounds: int, seconds: float, threads: list[int]) -> None:
    """Give every entry a process in every round."""
    playing = [entry for entry in entries if not entry.failed]
    for turn, position, which in order(len(playing), rounds):
        if position == 0:
            print(f"{playing[0].group.name}: round {turn + 1} of {rounds}", file=sys.stderr, flush=True)
        entry = playing[which]
        found = _play(entry, entry.made["file"], seconds, threads)
        if "failed" in found:
            raise SystemExit(f"{entry.contender.name} failed in round {turn + 1}: {found['failed']}")
        entry.rounds.append(found)


def _play(entry: Entry, file: str, seconds: float, threads: list[int]) -> dict[str, Any]:
    counts = ",".join(map(str, threads))
    words = [entry.contender.player, entry.folder / file, entry.folder / "feed.npy", str(seconds), counts]
    done = _process([HERE / "players.py", *words])
    found: dict[str, Any] = json.loads(done.stdout) if done.returncode == 0 else {"failed": _last(done)}
    return found


def _process(command: list[Any]) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, *map(os.fspath, command)]
    try:
        return subprocess.run(words, capture_output=True, text=True, check=False, timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(words, 1, "", f"no answer within {PATIENCE} s")


def _last(done: subprocess.CompletedProcess[str]) -> str:
    lines = done.stderr.strip().splitlines() or [f"ended with exit code {done.returncode}"]
    return lines[-1]


if __name__ == "__main__":
    main()
