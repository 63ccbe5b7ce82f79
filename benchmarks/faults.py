"""Does the parity check find every fault, and does it cry wolf? Builds the corpus, judges it, prints the table.

python benchmarks/faults.py            all networks; several minutes
python benchmarks/faults.py --quick    the smallest network alone
python benchmarks/faults.py --write    put the tables into docs/how-the-checks-work.md and README.md as well
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path

import torch
from fault_corpus.engines import Ports, naive_onnx, openvino_from_onnx, run, torch_run
from fault_corpus.faults import ATTENTION, Fault, attention_fault, attention_faults, other_faults
from fault_corpus.judging import Judge, Judged
from fault_corpus.sound import other_lowering, own, own_outputs, sound
from fault_corpus.subjects import NETWORKS, Subject, subjects
from fault_corpus.table import kinds, page, rules, summary

from ulsam_deploy.device.parity import check

#: OpenVINO drops a conversion to float16 and back: an artifact with these faults computes what it should.
DROPPED = {
    "1 + a rounded to float16",
    "one layer in float16",
    "float16 overflow in one layer",
    "outputs rounded to float16",
}
README = Path(__file__).parents[1] / "README.md"
PAGE = README.parent / "docs" / "how-the-checks-work.md"


def main() -> None:
    """Parse the command line and judge."""
    parser = argparse.ArgumentParser(description="Judge the parity check by faulty and sound artifacts.")
    parser.add_argument("--quick", action="store_true", help="the smallest network alone")
    parser.add_argument("--write", action="store_true", help=f"put the tables into {PAGE.name} and {README.name}")
    arguments = parser.parse_args()
    numbers = range(1 if arguments.quick else NETWORKS)
    with ProcessPoolExecutor(os.cpu_count(), get_context("spawn")) as pool:  # torch must not be forked
        judged = [one for found in pool.map(network, numbers) for one in found]
    print(summary(judged))
    if arguments.write:
        whole = f"{summary(judged)}\n\n### By kind of fault\n\n{kinds(judged)}"
        for path, made in ((PAGE, whole), (README, rules(judged))):
            path.write_text(page(path.read_text(), made))


def network(number: int) -> list[Judged]:
    """All artifacts of one network, judged; says each verdict as it falls."""
    torch.set_num_threads(1)
    judged = []
    with tempfile.TemporaryDirectory() as name:
        for one in everything(subjects(Path(name))[number](), number, Path(name)):
            judged.append(one)
            mark = "" if one.right() else "   <-- WRONG"
            named = {None: "", True: "named", False: "not named"}[one.named]
            about = f"{one.subject[:26]:26} {one.name[:50]:50} {one.target:8}"
            print(f"{about} {one.verdict:8}{one.error:10.3g} {named}{mark}", flush=True)
    return judged


def everything(subject: Subject, number: int, folder: Path) -> Iterator[Judged]:
    """Every artifact of one network, judged."""
    judge = Judge(subject)
    for one in sound(subject, folder):
        yield judge.artifact(one.name, one.target, one.outputs, faulty=False, half=one.half)
    if number == 0:
        for one in (*(own(subject, folder, target) for target in ("onnx", "openvino", "tflite")),
                    own(subject, folder, "tflite", 4), own(subject, folder, "openvino", None),
                    other_lowering(subject, folder)):  # fmt: skip
            yield judge.artifact(one.name, one.target, one.outputs, faulty=False)
        yield from tflite_faults(judge, folder)
    target = "openvino" if number == 2 else "onnx"
    for fault in chosen(subject, number):
        if target != "openvino" or fault.name not in DROPPED:
            yield faulty(judge, fault, folder, target)
    for path in subject.blocks:
        yield dead_in_half(judge, path, folder)


def chosen(subject: Subject, number: int) -> Iterator[Fault]:
    """All kinds on the first and on the trained network, others on the rest: the corpus is to run in minutes."""
    kinds = tuple(ATTENTION)
    if number == 3:
        for path in subject.blocks:
            for kind in ("removed", "subspace", "uniform"):
                yield attention_fault(subject, kind, path)
        return
    # The blocks take turns with the kinds: another start puts a kind into another block.
    some = {0: kinds, 1: kinds[1::2], 2: kinds[1::3]}.get(number, kinds[1:])
    yield from attention_faults(subject, some)
    others = list(other_faults(subject))
    yield from {1: others[:14], 2: others[14:]}.get(number, others)


def faulty(judge: Judge, fault: Fault, folder: Path, target: str) -> Judged:
    """Export the faulty network with a public tool, run it, judge it; say how large a fault is that was missed."""
    subject, path = judge.subject, naive_onnx(judge.subject, fault.model, folder / "faulty.onnx")
    if target == "openvino":
        path = openvino_from_onnx(path, folder / "faulty.xml")
    outputs = lambda: run(path, Ports.of(subject), subject.golden)  # noqa: E731
    found = judge.artifact(fault.name, target, outputs, faulty=True, place=fault.place, path=path)
    if found.right():
        return found
    inputs = {name: array.astype("float64") for name, array in subject.golden.inputs.items()}
    exact = torch_run(fault.model.double(), replace(subject.golden, inputs=inputs), list(subject.golden.outputs))
    effect = check(subject.golden, exact).error
    return replace(found, said=(*found.said, f"in float64, without any noise, the fault makes {effect:.2g}"))


def dead_in_half(judge: Judge, block: str, folder: Path) -> Judged:
    """A block's attention removed in an artifact that stores its weights in float16."""
    subject = judge.subject
    fault = attention_fault(subject, "removed", block)
    onnx = naive_onnx(subject, fault.model, folder / "faulty.onnx")
    path = openvino_from_onnx(onnx, folder / "faulty.xml", half=True)
    name = f"{fault.name}, weights in float16"
    outputs = lambda: run(path, Ports.of(subject), subject.golden)  # noqa: E731
    return judge.artifact(name, "openvino", outputs, faulty=True, half=True, place=block)


def tflite_faults(judge: Judge, folder: Path) -> Iterator[Judged]:
    """Faulty lowerings, which is how attention would be lost on this target."""
    from fault_corpus.lowerings import FAULTY

    for name, lowering in FAULTY.items():
        outputs = lambda how=lowering: own_outputs(judge.subject, folder, "tflite", how)  # noqa: E731
        yield judge.artifact(name, "tflite", outputs, faulty=True)


if __name__ == "__main__":
    main()
