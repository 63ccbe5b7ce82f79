"""Is the raise linear in the number of blocks? CPU seconds of capture, raise, proof and lowering, 1 to 256 blocks.

    python benchmarks/fusion_growth.py --write      docs/raise.svg and the table of docs/performance.md; some minutes

Blocks of 16 channels and 4 subspaces on 8 x 8 maps, one behind the other, so that a network of n blocks has 4 n naive
subspaces; clipped in between, as a MobileNet's layers are, or peaks would double with every block. The exponent is the
slope of a straight line through the logarithms from 16 blocks on. Capturing is ``torch.export``'s own time.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from ulsam_deploy.exporters.lowerings import broadcast
from ulsam_deploy.graph import Proof, capture, fuse_attention, lower
from ulsam_deploy.models.ulsam import ULSAM

ROOT = Path(__file__).parents[1]
PAGE, PICTURE = ROOT / "docs" / "performance.md", ROOT / "docs" / "raise.svg"
BEGIN, END = "<!-- made by benchmarks/fusion_growth.py -->", "<!-- end of the raise -->"
STAGES = ("capture (torch.export)", "raise", "prove", "lower")


def main() -> None:
    """Measure, print, and write on demand."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--most", type=int, default=256)
    parser.add_argument("--write", action="store_true", help=f"into docs/{PAGE.name} and docs/{PICTURE.name}")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    stages(1)  # imports, and caches of torch
    counts = [2**power for power in range(asked.most.bit_length())]
    found = {count: stages(count) for count in counts}
    text = "\n".join(table(found))
    print(text)
    if asked.write:
        draw(found)
        before, _, rest = PAGE.read_text().partition(BEGIN)
        PAGE.write_text(f"{before}{BEGIN}\n\n{text}\n\n{END}{rest.partition(END)[2]}")


def stages(count: int) -> tuple[float, ...]:
    """CPU seconds of every stage."""
    torch.manual_seed(0)
    model = nn.Sequential(*(layer for _ in range(count) for layer in (ULSAM(16, 4), nn.ReLU6()))).eval()
    taken: list[float] = []

    def timed(work: Callable[[], Any]) -> Any:
        began = time.process_time()
        result = work()
        taken.append(time.process_time() - began)
        return result

    captured = timed(lambda: capture(model, [(16, 8, 8)], 1))
    fused = timed(lambda: fuse_attention(captured))
    assert len(fused.blocks) == count
    timed(lambda: Proof(captured).check(fused, "fusing"))
    timed(lambda: lower(fused, broadcast))
    return tuple(taken)


def table(found: dict[int, tuple[float, ...]]) -> Iterator[str]:
    """A row a number of blocks, and the exponents."""
    yield f"| blocks | {' | '.join(STAGES)} |"
    yield "|---" * (len(STAGES) + 1) + "|"
    for count, taken in found.items():
        yield f"| {count} | {' | '.join(f'{seconds:.2f}' for seconds in taken)} |"
    large = [count for count in found if count >= 16]
    slopes = [
        np.polyfit(np.log(large), np.log([found[count][stage] for count in large]), 1)[0]
        for stage in range(len(STAGES) if len(large) > 1 else 0)
    ]
    yield f"| exponent | {' | '.join(f'{slope:.2f}' for slope in slopes)} |"


def draw(found: dict[int, tuple[float, ...]]) -> None:
    """Both scales logarithmic; a dotted line is proportional."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "raise"
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 4.5), layout="constrained")
    counts = list(found)
    for stage, name in enumerate(STAGES):
        axes.plot(counts, [found[count][stage] for count in counts], marker="o", label=name)
    last = found[counts[-1]][1]
    axes.plot(counts, [last * count / counts[-1] for count in counts], "k:", label="proportional")
    axes.set(xscale="log", yscale="log", xlabel="ULSAM blocks", ylabel="CPU seconds", xticks=counts)
    axes.set_xticks([], minor=True)
    axes.set_xticklabels([str(count) for count in counts])
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(PICTURE, metadata={"Date": None})


if __name__ == "__main__":
    main()
