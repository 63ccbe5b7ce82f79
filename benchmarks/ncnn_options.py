"""The tables of docs/ncnn.md: the reference network on ncnn, by machine and options, and ncnn's convolutions alone.

    python benchmarks/ncnn_options.py [--boards rpi3,rpi4,rpi5] [--folder DIR] [--write]

Needs the extra ``ncnn``; boards are emulated. "ncnn's defaults" is the float16 file without the options of the
artifact. Errors are relative to the root mean square of the reference's output; retention is by ablations of the
artifact itself.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import nn

from ulsam_deploy.boards.emulate import verifying
from ulsam_deploy.device.bundle import ArtifactRecord, Bundle, Evidence, read_bundle
from ulsam_deploy.device.parity import Golden
from ulsam_deploy.device.progress import Progress
from ulsam_deploy.device.types import TensorSpec
from ulsam_deploy.device.verify import execute
from ulsam_deploy.exporting.options import ExportOptions
from ulsam_deploy.exporting.pipeline import export
from ulsam_deploy.runtimes import ncnn as engine

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "ncnn.md"
REFERENCE = ROOT / "models" / "cluttered_digits.pt"
BEGIN, END = "<!-- made by benchmarks/ncnn_options.py -->", "<!-- end -->"
PRECISIONS = ("fp32", "fp16", "bf16")
DEFAULTS = engine.NcnnOptions(
    use_fp16_packed=True,
    use_fp16_storage=True,
    use_fp16_arithmetic=True,
    use_winograd43_convolution=True,
    use_winograd63_convolution=True,
)
#: Channels and size of 3 x 3 convolutions.
CONVOLUTIONS = ((16, 28), (64, 28), (128, 14))
WINOGRAD = {"none": (), "F(2, 3)": (23,), "F(2, 3), F(4, 3)": (23, 43), "all three": (23, 43, 63)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--boards", default="", help="such as rpi3,rpi4,rpi5")
    parser.add_argument("--folder", type=Path, help="keep the bundles here, and take those of an earlier run")
    parser.add_argument("--write", action="store_true", help="into docs/ncnn.md")
    asked = parser.parse_args()
    boards = [name for name in asked.boards.split(",") if name]
    with contextlib.ExitStack() as stack:
        folder = asked.folder or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        lines = [*networks(boards, folder), "", *convolutions(), "", *groups()]
    print("\n".join(lines))
    if asked.write:
        before, rest = PAGE.read_text(encoding="utf-8").split(BEGIN)
        page = "\n\n".join([before + BEGIN, "\n".join(lines), END + rest.split(END)[1]])
        PAGE.write_text(page, encoding="utf-8")


def exported(folder: Path, precisions: tuple[str, ...]) -> Bundle:
    """The reference network, without the cache, which does not know of other options."""
    if folder.is_dir():
        return read_bundle(folder)
    asked = ExportOptions(REFERENCE, output=folder, targets=("ncnn",), precisions=precisions, cache=False)
    found = export(asked, Progress())
    assert found.bundle is not None
    return found.bundle


def networks(boards: Sequence[str], folder: Path) -> Iterator[str]:
    """A line for each machine and each choice of options."""
    yield "| machine | options | error | noise floors | retention | verdict |"
    yield "|---|---|---|---|---|---|"
    whole = exported(folder / "own.bundle", PRECISIONS)
    chosen, engine.CHOSEN = engine.CHOSEN, {**engine.CHOSEN, "fp16": DEFAULTS}
    loose = exported(folder / "defaults.bundle", ("fp16",))
    engine.CHOSEN = chosen
    for board in ("", *boards):
        for bundle, words in ((whole, ""), (loose, "ncnn's defaults")):
            for record, evidence in judged(bundle, board):
                found = row(board or "x86-64", words or record.precision, evidence)
                print(found, file=sys.stderr, flush=True)
                yield found


def judged(bundle: Bundle, board: str) -> Iterator[tuple[ArtifactRecord, Evidence]]:
    """Every artifact with its evidence, here or on the emulated ``board``."""
    if board:
        for checked in verifying.verify_bundle(bundle, board):
            assert checked.evidence is not None, checked.error
            yield checked.record, checked.evidence
        return
    assert bundle.golden is not None
    for record in bundle.manifest.artifacts:
        found = execute(
            record.target, bundle.files(record), record.inputs, record.outputs, Golden.load(bundle.golden),
            precision=record.precision, timed=False,
        )  # fmt: skip
        yield record, found


def row(machine: str, options: str, evidence: Evidence) -> str:
    """One line of the table."""
    parity = evidence.parity
    assert parity is not None
    (output,) = parity.outputs
    kept = " ".join("?" if block.retention is None else f"{block.retention:.2f}" for block in parity.blocks)
    relative, floors = "-", "-"
    if output.error is not None and output.statistic is not None:
        floor = getattr(output.floor, output.statistic.value)
        relative, floors = f"{output.error * floor:.2g}", f"{output.error:.2f}"
    return f"| {machine} | {options} | {relative} | {floors} | {kept} | {evidence.verdict.value} |"


def convolutions() -> Iterator[str]:
    """The error of ncnn's 3 x 3 convolutions on this machine, by the forms of Winograd that it may use."""
    yield f"| channels, size | {' | '.join(WINOGRAD)} |"
    yield "|---" * (1 + len(WINOGRAD)) + "|"
    for channels, size in CONVOLUTIONS:
        found = []
        for forms in WINOGRAD.values():
            names = {f"use_winograd{form}_convolution": form in forms for form in (23, 43, 63)}
            found.append(convolved(channels, size, 1, engine.NcnnOptions(**names)))
        yield f"| {channels}, {size} x {size} | {' | '.join(found)} |"


def groups() -> Iterator[str]:
    """The error of ncnn's 3 x 3 convolutions of 16 channels on this machine, by groups and precision."""
    chosen = {precision: engine.CHOSEN[precision] for precision in ("fp32", "bf16")}
    yield f"| groups | {' | '.join(chosen)} |"
    yield "|---|---|---|"
    for count in (1, 2, 4, 16):
        found = [convolved(16, 28, count, options) for options in chosen.values()]
        yield f"| {count} | {' | '.join(found)} |"


def convolved(channels: int, size: int, count: int, options: engine.NcnnOptions) -> str:
    """The root mean square error of one convolution of ``count`` groups, relative to its result's."""
    torch.manual_seed(0)
    layer = nn.Conv2d(channels, channels, 3, padding=1, bias=False, groups=count)
    image = torch.randn(1, channels, size, size)
    with torch.no_grad():
        exact = layer.double()(image.double()).numpy()
    weights = layer.weight.detach().float().numpy()
    kind, grouped = ("Convolution", "") if count == 1 else ("ConvolutionDepthWise", f" 7={count}")
    with tempfile.TemporaryDirectory() as name:
        files = [Path(name) / ending for ending in ("c.param", "c.bin", "c.options.json")]
        files[0].write_text(
            f"7767517\n2 2\nInput x 0 1 x\n{kind} c 1 1 x y 0={channels} 1=3 4=1 5=0 6={weights.size}{grouped}\n"
        )
        files[1].write_bytes(b"\0\0\0\0" + weights.tobytes())
        files[2].write_text(engine.codec.dumps(engine.codec.encode(options, "options")))
        shape = (1, channels, size, size)
        with engine.Ncnn(files, [TensorSpec("x", shape)], [TensorSpec("y", shape)]) as session:
            found = session.run({"x": image.numpy()})["y"].astype(np.float64)
    return f"{float(np.sqrt(np.square(found - exact).mean() / np.square(exact).mean())):.2g}"


if __name__ == "__main__":
    main()
