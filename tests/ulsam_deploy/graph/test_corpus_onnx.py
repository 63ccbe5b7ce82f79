"""The corpus of the raise once more, out of ONNX files: what is fused of PyTorch's graph is fused of ONNX's."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from .corpus import Case
from .networks import ALL
from .spellings import randomise

ROOT = Path(__file__).parents[3]
#: Exporter, opset, folded, after onnxsim; all with a batch of 1.
WRITERS = (("TorchScript", 11, False, False), ("TorchScript", 13, True, False), ("TorchScript", 17, True, True),
           ("dynamo", 18, True, True))  # fmt: skip


@pytest.fixture(scope="module")
def corpus() -> Iterator[SimpleNamespace]:
    for package in ("torch", "onnx", "onnxsim", "onnxscript", "onnxruntime"):
        if find_spec(package) is None:
            pytest.skip(f"{package} is not installed")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "benchmarks"))
        yield SimpleNamespace(**{n: import_module(f"onnx_corpus.{n}") for n in ("writers", "judging")})


#: Where an ONNX file says less, or more, than the PyTorch module does. Everything else has to be the same.
DIFFERENT = {
    "gate with a bias taken twice": "the exporter adds the constants up, so nothing is taken twice",
    "one module for all groups": "a file may hold the shared weights once for each use",
    "softmax over parts of two images": "the batch of 1 has no second image",
    "softmax over all images": "the batch of 1 has no second image",
    "map of the other image": "the batch of 1 has no second image",
    "U-Net": "TorchScript joins two concatenations into one: the block's subspaces are fused one by one",
    "U-Net, dynamic batch": "the same",
}
#: A softmax over one number is 1: onnxsim writes that, and no attention is left to be fused or refused.
CONSTANT = ("softmax over the 1-channel axis", "softmax over the 1-channel axis, 4-D", "map of one position",
            "softmax over the batch", "variant: softmax over the channel")  # fmt: skip
#: What neither exporter's file can be read for: operators named in docs/onnx-in.md.
UNREAD = ("ScatterND", "GatherND", "TopK", "Sequence", "LessOrEqual", "If (")


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("words", WRITERS, ids=lambda words: "-".join(map(str, words)))
def test_the_whole_corpus(corpus: SimpleNamespace, words: Any) -> None:
    """Every network of the corpus of the raise is fused or refused from its ONNX file as it is from PyTorch."""
    exporter, opset, folded, simplified = words
    writer = corpus.writers.Writer(exporter, opset, False, folded, simplified)
    wrong = [f"{case.name}: {said}" for case in ALL if (said := _wrong(corpus, writer, case))]
    assert not wrong


def _wrong(corpus: SimpleNamespace, writer: Any, case: Case) -> str:
    if len(case.inputs) > 1:
        return ""  # the writer's files have one input
    seen = corpus.judging.seen(randomise(case.make()), case.inputs[0], writer)
    if seen.words:
        known = seen.words.startswith("not written") or any(operator in seen.words for operator in UNREAD)
        return "" if known else seen.words
    if case.name in DIFFERENT:
        return ""
    if writer.simplified and case.name in CONSTANT:
        return f"{seen.fused} fused, {seen.refusals} refused" if seen.fused or seen.refusals else ""
    if seen.fused != len(case.blocks):
        return f"{seen.fused} fused of {len(case.blocks)}: {seen.refusals}"
    reasons = [reason for _, reason in case.refusals]
    found = [refusal.reason for refusal in seen.refusals]
    return (
        "" if len(reasons) == len(found) and all(a in b for a, b in zip(reasons, found)) else f"{found}, not {reasons}"
    )
