"""ONNX files x exporters: is the attention fused, how exactly, and do the artifacts hold? Prints the tables.

python benchmarks/onnx_sources.py            two ways to write a file by each exporter; five minutes of one core
python benchmarks/onnx_sources.py --all      all four ways, and artifacts of more of them; a quarter of an hour
python benchmarks/onnx_sources.py --write    put the tables into docs/onnx-in.md as well
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from onnx_corpus.judging import Seen, seen
from onnx_corpus.networks import LEFT, NETWORKS
from onnx_corpus.writers import Writer, writers

BEGIN, END = "<!-- made by benchmarks/onnx_sources.py -->", "<!-- end -->"
PAGE = Path(__file__).parents[1] / "docs" / "onnx-in.md"
TARGETS = ("onnx", "openvino", "tflite")


def main() -> None:
    """Parse the command line, judge, print."""
    parser = argparse.ArgumentParser(description="Take ONNX files by every exporter through the pipeline.")
    parser.add_argument("--all", action="store_true", help="every way to write a file, and artifacts of more of them")
    parser.add_argument("--write", action="store_true", help=f"put the tables into {PAGE.name}")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    chosen = [writer for writer in writers() if arguments.all or writer.dynamic != writer.folded]
    turns = taking_turns() if arguments.all else taking_turns()[::2]
    tables = "\n\n".join(["\n".join(fused(chosen)), "\n".join(parity(turns)), "\n".join(left(taking_turns()[::5]))])
    print(tables)
    if arguments.write:
        before, _, rest = PAGE.read_text().partition(BEGIN)
        PAGE.write_text(f"{before}{BEGIN}\n\n{tables}\n\n{END}{rest.partition(END)[2]}")


def taking_turns() -> list[Writer]:
    """One writer of each exporter and opset; batch, folding and simplification take turns."""
    kinds = dict.fromkeys((writer.exporter, writer.opset) for writer in writers())
    return [
        Writer(exporter, opset, bool(number & 1), not number & 2, bool(number & 4) ^ bool(number & 1))
        for number, (exporter, opset) in enumerate(kinds)
    ]


def fused(chosen: Sequence[Writer]) -> Iterator[str]:
    """Five spellings: one row an exporter and opset, one column a way to write."""
    (name, (make, shape, blocks)) = next(iter(NETWORKS.items()))
    ways = list(dict.fromkeys(way_of(writer) for writer in chosen))
    yield f"| {name}, {blocks} blocks | {' | '.join(ways)} |"
    yield "|---" * (len(ways) + 1) + "|"
    for exporter, opset in dict.fromkeys((writer.exporter, writer.opset) for writer in chosen):
        cells = dict.fromkeys(ways, "")
        for writer in chosen:
            if (writer.exporter, writer.opset) == (exporter, opset):
                words = _words(seen(make(), shape, writer), writer, blocks)
                cells[way_of(writer)] += f"; {words}" if cells[way_of(writer)] else words
        row = f"| {exporter} {opset} | {' | '.join(cells.values())} |"
        print(row, flush=True)
        yield row


def way_of(writer: Writer) -> str:
    """What a column is about."""
    return f"{'dynamic' if writer.dynamic else 'static'}, {'folded' if writer.folded else 'not folded'}"


def _words(found: Seen, writer: Writer, blocks: int) -> str:
    prefix = "onnxsim: " if writer.simplified else ""
    if found.words:
        return f"{prefix}**{found.words}**"
    refused = f", {len(found.refusals)} refused" if found.refusals else ""
    return f"{prefix}{found.fused} of {blocks}{refused} ({max(found.read, found.rewritten):.0e})"


def left(chosen: Sequence[Writer]) -> Iterator[str]:
    """What only looks like ULSAM, and what is said of it."""
    yield "| network | exporter | what is said |"
    yield "|---|---|---|"
    for name, make in LEFT.items():
        for writer in chosen:
            found = seen(make(), (3, 16, 16), writer)
            words = "; ".join(f"`{refusal.path}`: {refusal.reason}" for refusal in found.refusals)
            yield f"| {name} | {writer.name} | {found.words or words or 'nothing: it is no ULSAM by its operations'} |"


def parity(chosen: Sequence[Writer]) -> Iterator[str]:
    """One row a network and writer, one column a target."""
    yield f"| network | exporter | fused | {' | '.join(TARGETS)} |"
    yield "|---" * (len(TARGETS) + 3) + "|"
    for name, (make, shape, blocks) in NETWORKS.items():
        for writer in chosen:
            found = seen(make(), shape, writer, TARGETS)
            cells = [
                verdict if math.isnan(error) else f"{verdict}, {error:.2g}x noise"
                for verdict, error in map(found.artifacts.get, TARGETS)  # type: ignore[misc]
            ]
            row = f"| {name} | {writer.name} | {found.fused} of {blocks} | {' | '.join(cells)} |"
            print(row, flush=True)
            yield row


if __name__ == "__main__":
    main()
