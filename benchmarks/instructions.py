"""ARM instructions of one inference, counted in emulation: naive export against ours, and precision against precision.

    python benchmarks/instructions.py [--write] [--board rpi5]

``--write`` puts the tables into docs/emulation.md. "naive" is the network as it is written, without one rewrite: for
ONNX Runtime what ``torch.onnx.export`` makes of it. litert-torch refuses the naive form inside a network, so for LiteRT
it is the same arithmetic with the two operations it stumbles over spelled otherwise: broadcasting in place of
``expand``, slices in place of ``chunk``. Whole networks are those of benchmarks/peers.py, a backbone and the same with
ULSAM after every block. Aims: what ULSAM adds at most half of what the naive form adds; our block at most 0.75 of the
naive one's instructions in fp32, the int8 network at most 0.5 of the fp32 one on a Pi 5.
"""

from __future__ import annotations

import argparse
import copy
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ulsam_deploy.boards.emulate import Counts, count_bundle
from ulsam_deploy.cli import main as command
from ulsam_deploy.device import plugins
from ulsam_deploy.device.bundle import Bundle, BundleWriter, Evidence, Manifest, ModelCard, read_bundle
from ulsam_deploy.device.findings import Verdict
from ulsam_deploy.device.parity import Golden
from ulsam_deploy.device.progress import Progress
from ulsam_deploy.device.types import Artifact, EvidenceLevel, TensorSpec
from ulsam_deploy.graph import capture, fuse_attention, lower
from ulsam_deploy.graph.interfaces import ExportRequest
from ulsam_deploy.models.ulsam import ULSAM

sys.path.insert(0, str(Path(__file__).parent / "peer_bench"))
from networks import BACKBONE, EVERYWHERE
from networks import GROUPS as NETWORKS

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "emulation.md"
REFERENCE = ROOT / "models" / "cluttered_digits.pt"
BEGIN, END = "<!-- made by benchmarks/instructions.py -->", "<!-- end -->"
ENGINES = {"onnx": "ONNX Runtime", "tflite": "LiteRT"}
#: Channels, subspaces and map of the blocks that are compared.
BLOCKS = ((64, 4, 14),)
#: Networks that are compared: emulation is slow, and these are the paper's at the smaller size.
GROUPS = ("mobilenet_v1 96", "mobilenet_v2 96")


class Spelled(nn.Module):
    """A naive ULSAM in operations that litert-torch converts; it shares the weights of ``block``."""

    def __init__(self, block: ULSAM) -> None:
        super().__init__()
        self.subspaces = block.subspaces

    def forward(self, x: Tensor) -> Tensor:
        """Attend to ``x``, ``[N, C, H, W]``."""
        width = x.shape[1] // len(self.subspaces)
        parts = [_attend(each, x[:, i * width : (i + 1) * width]) for i, each in enumerate(self.subspaces)]
        return torch.cat(parts, dim=1)


def _attend(own: Any, x: Tensor) -> Tensor:
    gate = own.relu_dws(own.bn_dws(own.conv_dws(x)))
    score = own.relu_point(own.bn_point(own.conv_point(own.maxpool(gate))))
    n, one, h, w = score.shape
    attention = own.softmax(score.view(n, one, -1)).view(n, one, h, w)
    return attention * x + x


def spelled(model: nn.Module) -> nn.Module:
    """A copy of ``model`` in which every block is :class:`Spelled`."""
    other = copy.deepcopy(model)
    for name, block in list(other.named_modules()):
        if isinstance(block, ULSAM):
            other.set_submodule(name, Spelled(block))
    return other.eval()


def naive(model: nn.Module, shape: Sequence[int], target: str, folder: Path) -> Artifact:
    """``model`` as it is written, exported for ``target``."""
    if target == "tflite":
        exporter = plugins.load(plugins.EXPORTERS, target)
        made: Artifact = exporter.export(capture(spelled(model), [tuple(shape)], 1), ExportRequest(), folder)
        return made
    example = (torch.zeros(1, *shape),)
    torch.onnx.export(
        model, example, folder / "model.onnx", dynamo=True, input_names=["x"], output_names=["y"], verbose=False,
        external_data=False,
    )  # fmt: skip
    size = tuple(model(*example).shape)
    ports = (TensorSpec("x", (1, *shape)),), (TensorSpec("y", size),)
    return Artifact(target, "fp32", ("model.onnx",), *ports, EvidenceLevel.EXPORTED, {})


def ours(model: nn.Module, shape: Sequence[int], target: str, folder: Path) -> Artifact:
    """``model`` through the pipeline to ``target``."""
    exporter = plugins.load(plugins.EXPORTERS, target)
    fused = fuse_attention(capture(model, [tuple(shape)], 1))
    made: Artifact = exporter.export(lower(fused, exporter.lowering(ExportRequest())), ExportRequest(), folder)
    return made


def bundled(model: nn.Module, shape: Sequence[int], target: str, how: Any, output: Path) -> Bundle:
    """A bundle of the one artifact that ``how`` makes, so that it is counted by the very command's code."""
    probes = np.random.default_rng(0).normal(size=(4, *shape)).astype(np.float32)
    with BundleWriter(output) as writer, torch.no_grad():
        (writer.folder / target).mkdir()
        made = how(model, shape, target, writer.folder / target)
        record = writer.artifact(made, target, Evidence(EvidenceLevel.EXPORTED, Verdict.UNVERIFIED))
        (port_in,), (port_out,) = made.inputs, made.outputs
        single = model(torch.from_numpy(probes)).numpy()
        exact = model.double()(torch.from_numpy(probes).double()).numpy()
        model.float()
        runs = [{port_out.name: single}]
        golden = Golden.build({port_in.name: probes}, {port_out.name: exact}, [], runs, blocks=(), probes=list("abcd"))
        golden.save(writer.folder / "golden.npz")
        card = ModelCard("block", "0" * 64, "block", {}, made.inputs, made.outputs, (), (), 0)
        return writer.commit(Manifest(card, (record,), writer.record("golden.npz")))


def counted(bundle: Bundle, board: str) -> dict[tuple[str, str], Counts]:
    """Counts by target and precision; stops where one could not be counted."""
    found = count_bundle(bundle, board, progress=Progress())
    for one in found:
        if one.counts is None:
            raise SystemExit(f"{one.record.target} {one.record.precision}: {one.error}")
    return {(one.record.target, one.record.precision): one.counts for one in found if one.counts}


def exported_blocks(folder: Path) -> dict[tuple[str, str, str], Bundle]:
    """Bundles by block, target and form; each is counted on every board."""
    made = {}
    for channels, subspaces, side in BLOCKS:
        torch.manual_seed(0)
        model = nn.Sequential(ULSAM(channels, subspaces)).eval()
        name = f"{channels} channels, {subspaces} subspaces, {side}x{side}"
        for target in ENGINES:
            for how in (naive, ours):
                place = folder / f"{channels}-{side}-{target}-{how.__name__}.bundle"
                made[name, target, how.__name__] = bundled(model, (channels, side, side), target, how, place)
    return made


def blocks(board: str, made: dict[tuple[str, str, str], Bundle]) -> list[str]:
    """One row a block and engine: thousands of instructions, naive and ours."""
    rows = ["| block | engine | naive, k | ours, k | ours / naive |", "|---|---|---|---|---|"]
    for name, target in dict.fromkeys((name, target) for name, target, _ in made):
        before, after = (
            counted(made[name, target, form], board)[target, "fp32"].inference.instructions / 1e3
            for form in ("naive", "ours")
        )
        rows.append(f"| {name} | {ENGINES[target]} | {before:.0f} | {after:.0f} | **{after / before:.2f}** |")
    return rows


def exported_networks(folder: Path) -> dict[tuple[str, str, str], Bundle]:
    """Bundles by network, target and form; the backbone takes our pipeline, on which nothing is rewritten."""
    made = {}
    for name in GROUPS:
        group = NETWORKS[name]
        for target in ENGINES:
            for form, network, how in (
                ("backbone", BACKBONE, ours),
                ("naive", EVERYWHERE, naive),
                ("ours", EVERYWHERE, ours),
            ):
                place = folder / f"{name.replace(' ', '-')}-{target}-{form}.bundle"
                made[name, target, form] = bundled(group.build(network), group.shape, target, how, place)
    return made


def networks(board: str, made: dict[tuple[str, str, str], Bundle]) -> list[str]:
    """One row a network and engine: millions of instructions of the backbone, and what ULSAM adds."""
    rows = ["| ULSAM after every block of | engine | backbone, M | naive adds, M | ours adds, M | ours / naive |"]
    rows.append("|---" * 6 + "|")
    for name, target in dict.fromkeys((name, target) for name, target, _ in made):
        base, before, after = (
            counted(made[name, target, form], board)[target, "fp32"].inference.instructions / 1e6
            for form in ("backbone", "naive", "ours")
        )
        added = f"{before - base:.2f} | {after - base:.2f} | **{(after - base) / (before - base):.2f}**"
        rows.append(f"| {name} | {ENGINES[target]} | {base:.2f} | {added} |")
    return rows


def precisions(board: str, bundle: Path) -> list[str]:
    """One row an artifact of the reference network: millions of instructions, and their share of fp32's."""
    found = counted(read_bundle(bundle), board)
    rows = [
        "| engine | precision | instructions, M | of fp32 | load/store, M | FMA, M | dot product, M |",
        "|---|---|---|---|---|---|---|",
    ]
    for (target, precision), counts in found.items():
        whole, classes = counts.inference.instructions, counts.inference.classes
        share = whole / found[target, "fp32"].inference.instructions
        parts = [f"{classes[name] / 1e6:.2f}" for name in ("load_store", "fma", "dot_product")]
        rows.append(f"| {ENGINES[target]} | {precision} | {whole / 1e6:.2f} | **{share:.2f}** | {' | '.join(parts)} |")
    return rows


def _exported(folder: Path) -> Path:
    """The reference network in every precision that both targets have."""
    offered = [plugins.load(plugins.EXPORTERS, target).precisions for target in ENGINES]
    both = [name for name in offered[0] if name in offered[1]]
    images = folder / "calibration.npz"
    from ulsam_deploy.models.digits import cluttered_digits

    np.savez(images, x=cluttered_digits("train", 64, 1)[0])
    words = ["export", str(REFERENCE), "--target", ",".join(ENGINES), "--precision", ",".join(both)]
    words += ["--calibration", str(images)] if "int8" in both else []
    if command([*words, "-o", str(folder / "reference.bundle")]) not in (0, 5):
        raise SystemExit("the reference network could not be exported")
    return folder / "reference.bundle"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--board", action="append", help="default: rpi4 and rpi5")
    parser.add_argument("--bundle", type=Path, help="count this bundle of the reference network, and export none")
    parser.add_argument("--write", action="store_true", help="into docs/emulation.md")
    arguments = parser.parse_args()
    parts = []
    with tempfile.TemporaryDirectory() as scratch:
        made = exported_blocks(Path(scratch))
        whole = exported_networks(Path(scratch))
        network = arguments.bundle or _exported(Path(scratch))
        for board in arguments.board or ["rpi4", "rpi5"]:
            parts += [f"### {board}", "", *blocks(board, made), "", *networks(board, whole), ""]
            parts += ["The reference network (96 x 96):", "", *precisions(board, network), ""]
    text = "\n".join(parts)
    print(text)
    if arguments.write:
        before, _, rest = PAGE.read_text().partition(BEGIN)
        PAGE.write_text(f"{before}{BEGIN}\n\n{text}\n{END}{rest.partition(END)[2]}")


if __name__ == "__main__":
    main()
