"""The ONNX project's node tests through the import: right, refused, wrong or crashed, by operator.

python benchmarks/onnx_node_tests.py                all of them
python benchmarks/onnx_node_tests.py Resize LSTM    those of some operators, with the reasons
python benchmarks/onnx_node_tests.py --capture      as an export does: captured, and proven on more inputs; slower
python benchmarks/onnx_node_tests.py --write        put the table into docs/onnx-in.md as well
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

import onnx
import torch
from onnx_nodes.cases import node_tests
from onnx_nodes.judging import Judged, Outcome, captured, imported, judged_in_subprocesses

BEGIN, END = "<!-- made by benchmarks/onnx_node_tests.py -->", "<!-- end of the node tests -->"
PAGE = Path(__file__).parents[1] / "docs" / "onnx-in.md"


def main() -> None:
    """Parse the command line, judge, print."""
    parser = argparse.ArgumentParser(description="Take the ONNX project's node tests through the import.")
    parser.add_argument("operators", nargs="*", metavar="OPERATOR", help="only the tests of these operators")
    parser.add_argument("--capture", action="store_true", help="capture each, and prove it on more inputs")
    parser.add_argument("--write", action="store_true", help=f"put the table into {PAGE.name}")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    tests = [test for test in node_tests() if not arguments.operators or test.operator in arguments.operators]
    seen = []
    for one in judged_in_subprocesses(tests, captured if arguments.capture else imported):
        seen.append(one)
        if one.outcome is not Outcome.RIGHT:
            print(f"{one.outcome.value:8} {one.operator:22} {one.test}: {one.words}", file=sys.stderr, flush=True)
    text = "\n".join(table(seen))
    print(text)
    if arguments.write:
        before, _, rest = PAGE.read_text().partition(BEGIN)
        PAGE.write_text(f"{before}{BEGIN}\n\n{text}\n\n{END}{rest.partition(END)[2]}")


def table(seen: Sequence[Judged]) -> Iterator[str]:
    """All outcomes in one line, then a row for each operator that is not always right."""
    by_operator: dict[str, Counter[Outcome]] = defaultdict(Counter)
    for one in seen:
        by_operator[one.operator][one.outcome] += 1
    total = Counter(one.outcome for one in seen)
    words = ", ".join(f"{total[outcome]} {outcome.value}" for outcome in Outcome)
    yield f"onnx {onnx.__version__}: of {len(seen)} node tests {words}."
    yield ""
    whole = sorted(op for op, counts in by_operator.items() if set(counts) == {Outcome.RIGHT})
    yield f"Always right: {', '.join(whole)}."
    yield ""
    yield f"| operator | {' | '.join(outcome.value for outcome in Outcome)} |"
    yield "|---" * (len(Outcome) + 1) + "|"
    for op in sorted(by_operator.keys() - set(whole)):
        yield f"| {op} | {' | '.join(str(by_operator[op][outcome] or '') for outcome in Outcome)} |"


if __name__ == "__main__":
    main()
