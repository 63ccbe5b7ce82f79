"""Do the tests notice when the check itself is broken? Breaks it in one place after the other and runs its tests.

    python benchmarks/checker_mutations.py            every mutation; some minutes
    python benchmarks/checker_mutations.py --write    and put the table into docs/how-the-checks-work.md

A mutation that no test notices is an error of the tests; the exit code is 1 then.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "how-the-checks-work.md"
BEGIN, END = "<!-- made by benchmarks/checker_mutations.py -->", "<!-- end of mutations -->"
TESTS = "tests/ulsam_deploy/device/parity"
CHECK, NOISE, RETENTION = (f"ulsam_deploy/device/parity/{name}.py" for name in ("check", "noise", "retention"))
THRESHOLDS = "ulsam_deploy/device/thresholds.py"


@dataclass(frozen=True)
class Mutation:
    """``old`` is in ``file`` once, and ``new`` takes its place."""

    what: str
    file: str
    old: str
    new: str


MUTATIONS = (
    Mutation("tolerance times 100", THRESHOLDS, "\nTOLERANCE = 8.0", "\nTOLERANCE = 800.0"),
    Mutation(
        "noise floor times 100",
        NOISE,
        "return Floor(l2, peak, len(runs), max(drifts))",
        "return Floor(100 * l2, 100 * peak, len(runs), 100 * max(drifts))",
    ),
    Mutation("retention switched off", CHECK, "if (sentence := _lost(block))", "if (sentence := '')"),
    Mutation("every block counts as alive", THRESHOLDS, "KEPT, LOST = 0.9, 0.1", "KEPT, LOST = -9.0, -99.0"),
    Mutation(
        "no interval: the estimate alone", RETENTION, "value, value - half, value + half)", "value, value, value)"
    ),
    Mutation(
        "attention that is too strong or reversed", RETENTION, "return low > 1.0 + LOST or high < -LOST", "return False"
    ),
    Mutation(
        "uniform attention",
        CHECK,
        "if shape is None or shape.state is not AttentionState.LOST",
        "if True or shape.state",
    ),
    Mutation("an artifact's own ablations", CHECK, "    if artifact_ablations:", "    if False:"),
    Mutation("the look inside an artifact", CHECK, "    if inside:", "    if False:"),
    Mutation("losing a block could go unseen", CHECK, "return block.distance < DISTANCE and", "return False and"),
    Mutation("outputs that a constant would match", CHECK, "CONTRAST = 2.0", "CONTRAST = 0.0"),
    Mutation(
        "all outputs but the first",
        CHECK,
        "tolerance) for name in golden.outputs)",
        "tolerance) for name in [*golden.outputs][:1])",
    ),
    Mutation(
        "all probes but the first",
        CHECK,
        "errors = _in_floors(z - y, scales(y), floor)",
        "errors = _in_floors(z - y, scales(y), floor)[:, :1]",
    ),
    Mutation(
        "the largest element",
        CHECK,
        "return np.stack([l2 / floor.l2, peak / floor.peak])",
        "return np.stack([l2 / floor.l2, l2 / floor.l2])",
    ),
    Mutation("what adds up over probes", CHECK, "if error <= tolerance and drifted > error:", "if False:"),
    Mutation("values that are not finite", CHECK, "if not np.all(np.isfinite(array)):", "if False:"),
    Mutation("a missing output", CHECK, "if not set(golden.outputs) <= set(arrays):", "if not arrays:"),
    Mutation(
        "images run together",
        "ulsam_deploy/device/engines.py",
        "sizes = [size] if size else _SIZES",
        "sizes = [size or 1]",
    ),
    Mutation("a permuted batch is not named", CHECK, "        if like.size:", "        if False:"),
)


def main() -> None:
    """Try every mutation and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help=f"put the table into {PAGE.name}")
    write = parser.parse_args().write
    found = []
    for mutation in MUTATIONS:
        failed, passed = tried(mutation)
        found.append((mutation, failed, passed))
        print(f"{mutation.what}: {failed} of {failed + passed} tests fail", file=sys.stderr, flush=True)
    text = table(found)
    print(text)
    if write:
        before, _, rest = PAGE.read_text().partition(BEGIN)
        PAGE.write_text(f"{before}{BEGIN}\n\n{text}\n\n{END}{rest.partition(END)[2]}")
    sys.exit(any(not failed for _, failed, _ in found))


def tried(mutation: Mutation, *tests: str) -> tuple[int, int]:
    """How many of ``tests`` fail (or break) and how many pass with it; without any, all of the check's own."""
    env = {**os.environ, "MUTANT": json.dumps(asdict(mutation)), "PYTHONPATH": os.fspath(Path(__file__).parent)}
    words = tests or (TESTS, f"--ignore={TESTS}/test_mutations.py")  # which comes here
    command = [sys.executable, "-m", "pytest", "-q", "-p", "mutant", "-m", "not slow", "--tb=no", *words]
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    if done.returncode not in (0, 1):
        raise SystemExit(f"{mutation.what}: pytest ended with {done.returncode}:\n{done.stdout[-2000:]}{done.stderr}")
    counts = {word: int(number) for number, word in re.findall(r"(\d+) (failed|passed|error)", done.stdout)}
    return counts.get("failed", 0) + counts.get("error", 0), counts.get("passed", 0)


def table(found: list[tuple[Mutation, int, int]]) -> str:
    """One row a mutation."""
    rows = ["| broken in the check | tests that fail |", "|---|---|"]
    rows += [f"| {mutation.what} | {failed} |" for mutation, failed, _ in found]
    return "\n".join(rows)


if __name__ == "__main__":
    main()
