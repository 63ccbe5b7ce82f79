"""Random small networks through every engine, held against PyTorch in float64: ``python -m tests.fuzz.engines``.

The judge is the one of every export: the noise floor of the network itself. So that it is known to see faults, each
network is also judged with a fault planted into it, one after another of :data:`FAULTS`: all of those have to be found
wherever the fault changes what the network computes.
"""

from __future__ import annotations

import argparse
import copy
import random
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ulsam_deploy.device import plugins
from ulsam_deploy.device.engines import produce, runtime_for
from ulsam_deploy.device.errors import UlsamError
from ulsam_deploy.device.findings import Verdict
from ulsam_deploy.device.parity import check
from ulsam_deploy.graph import capture, fuse_attention, lower, make_golden, prove
from ulsam_deploy.graph.interfaces import ExportRequest
from ulsam_deploy.models.ulsam import ULSAM

TARGETS = ("onnx", "openvino", "tflite")


class Net(nn.Module):
    """A random chain of what compact CNNs are made of, with attention here and there and a skip over some parts."""

    def __init__(self, chance: random.Random) -> None:
        super().__init__()
        self.size = chance.choice([8, 12, 15, 16])
        channels, side = chance.choice([8, 12, 16]), self.size
        layers: list[nn.Module] = [nn.Conv2d(3, channels, 3, padding=1)]
        self.words = [f"{channels}@{side}"]
        for _ in range(chance.randint(2, 6)):
            layer, channels, side, word = _layer(chance, channels, side)
            layers.append(layer)
            self.words.append(word)
        self.body = nn.Sequential(*layers)
        self.dense = chance.random() < 0.3
        self.head = nn.Conv2d(channels, 5, 1) if self.dense else nn.Linear(channels, 5)

    def forward(self, x: Tensor) -> Tensor:
        y = self.body(x)
        return self.head(y) if self.dense else self.head(y.mean((2, 3)))


class Skip(nn.Module):
    def __init__(self, inner: nn.Module, how: str) -> None:
        super().__init__()
        self.inner, self.how = inner, how

    def forward(self, x: Tensor) -> Tensor:
        y = self.inner(x)
        return torch.cat([x, y], 1) if self.how == "cat" else x * y.sigmoid() if self.how == "gate" else x + y


def _layer(chance: random.Random, channels: int, side: int) -> tuple[nn.Module, int, int, str]:
    kind = chance.choice(["attention", "attention", "conv", "depthwise", "pool", "skip", "activation", "norm"])
    if kind == "attention":
        groups = chance.choice([g for g in (1, 2, 4) if channels % g == 0])
        return ULSAM(channels, groups), channels, side, f"ulsam/{groups}"
    if kind == "conv":
        out, kernel, stride = chance.choice([8, 12, 16]), chance.choice([1, 3, 5]), chance.choice([1, 1, 2])
        layer = nn.Conv2d(channels, out, kernel, stride, kernel // 2, bias=chance.random() < 0.5)
        return layer, out, -(-side // stride), f"conv{kernel}/{stride}"
    if kind == "depthwise":
        dilation = chance.choice([1, 2])
        layer = nn.Conv2d(channels, channels, 3, 1, dilation, dilation, groups=channels)
        return layer, channels, side, f"depthwise/{dilation}"
    if kind == "pool" and side > 3:
        pool = chance.choice([nn.MaxPool2d(2), nn.AvgPool2d(2), nn.MaxPool2d(3, 2, 1), nn.AvgPool2d(3, 2, 1)])
        padded = pool.kernel_size == 3
        return pool, channels, (side + 1) // 2 if padded else side // 2, f"{type(pool).__name__}{pool.kernel_size}"
    if kind == "skip":
        how = chance.choice(["add", "gate", "cat"])
        inner = nn.Conv2d(channels, channels, chance.choice([1, 3]), padding="same")
        return Skip(inner, how), channels * (2 if how == "cat" else 1), side, how
    if kind == "norm":
        return nn.BatchNorm2d(channels), channels, side, "norm"
    smooth = chance.choice([nn.ReLU(), nn.ReLU6(), nn.Hardswish(), nn.SiLU(), nn.Sigmoid(), nn.LeakyReLU(0.1)])
    return smooth, channels, side, type(smooth).__name__


def trained(model: nn.Module, seed: int) -> nn.Module:
    """Weights as after training: statistics that are not the initial ones, outputs of a usual size."""
    generator = torch.Generator().manual_seed(seed)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor, low, high in ((module.running_mean, -0.3, 0.3), (module.running_var, 0.5, 2.0),
                                      (module.weight, 0.7, 1.5), (module.bias, -0.3, 0.3)):  # fmt: skip
                tensor.data = torch.rand(tensor.shape, generator=generator) * (high - low) + low
    return model.eval()


def _scaled(model: nn.Module) -> None:
    layer = model.head
    layer.weight.data = layer.weight.data * 1.01


def _first(model: nn.Module) -> None:
    model.body[0].weight.data[0] *= 1.02


def _swapped(model: nn.Module) -> None:
    model.body[0].weight.data = model.body[0].weight.data.flip(1)


def _bias(model: nn.Module) -> None:
    model.head.bias.data += 0.01


def _transposed(model: nn.Module) -> None:
    model.body[0].weight.data = model.body[0].weight.data.mT.contiguous()


def _dead(model: Any) -> None:
    blocks = [i for i, layer in enumerate(model.body) if isinstance(layer, ULSAM)]
    for block in blocks[:1]:
        model.body[block] = nn.Identity()


FAULTS: dict[str, Callable[[Any], None]] = {
    "head off by 1 %": _scaled, "one filter off by 2 %": _first, "colours swapped": _swapped,
    "a bias off by 0.01": _bias, "kernels transposed": _transposed, "attention dead": _dead,
}  # fmt: skip


@dataclass(frozen=True)
class Find:
    """A network on which an engine and PyTorch differ, or which it can't take."""

    seed: int
    target: str
    words: str
    said: str


class Fuzzer:
    """Counts what came of each network and each planted fault."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.counts: Counter[str] = Counter()
        self.finds: list[Find] = []
        self.missed: list[str] = []

    def network(self, seed: int, targets: Sequence[str], fault: str) -> None:
        """One network: a sound artifact of each target has to pass, one with the fault must not."""
        chance = random.Random(seed)
        torch.manual_seed(seed)
        model: Any = trained(Net(chance), seed)
        shape, batch = (3, model.size, model.size), chance.choice([1, 2])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            program = capture(model, [shape], batch)
            fused = fuse_attention(program)
            prove(program, fused, "fusing")
            probes = np.random.default_rng(seed).normal(size=(8, *shape)).astype(np.float32)
            golden = make_golden(program, fused, {program.inputs[0].name: probes}, [f"p{i}" for i in range(8)])
            spoiled = copy.deepcopy(model)
            FAULTS[fault](spoiled)
            other = fuse_attention(capture(spoiled, [shape], batch))
            self.counts["networks"] += 1
            words = " ".join(model.words)
            for target in targets:
                said = self._judge(fused, golden, target, f"{seed}-{target}")
                self.counts[f"{target} {said.split(':')[0]}"] += 1
                if said not in ("pass", "inconclusive"):
                    self.finds.append(Find(seed, target, words, said))
            if not _changes(program, other, probes):
                self.counts["faults without effect"] += 1
                return
            target = chance.choice(list(targets))
            said = self._judge(other, golden, target, f"{seed}-fault")
            self.counts["faults planted"] += 1
            self.counts["faults found"] += said != "pass"
            if said == "pass":
                self.missed.append(f"{seed} {target} {fault}: {words}")

    def _judge(self, program: Any, golden: Any, target: str, name: str) -> str:
        """The verdict on ``program`` as an artifact of ``target``, or what stopped it."""
        folder = self.folder / name
        folder.mkdir()
        exporter = plugins.load(plugins.EXPORTERS, target)
        try:
            made = exporter.export(lower(program, exporter.lowering(ExportRequest())), ExportRequest(), folder)
            files = [folder / file for file in made.files]
            with runtime_for(target)(files, made.inputs, made.outputs, threads=1) as runtime:
                report = check(golden, produce(runtime, golden.inputs))
        except UlsamError as error:
            return f"error: {error.found}"
        reasons = f": {'; '.join(map(str, report.reasons))}" if report.verdict is Verdict.FAIL else ""
        return report.verdict.value + reasons


def _changes(program: Any, other: Any, probes: Any) -> bool:
    """Whether the planted fault is one: more than float32 would do by itself."""
    from ulsam_deploy.graph import Evaluator

    size = program.batch or 1
    images = [torch.from_numpy(probes[:size])]
    (one,), (two,) = (tuple(Evaluator(p).run(images).values()) for p in (program, other))
    return bool((one - two).norm() > 1e-4 * one.norm())


def run(seeds: Iterator[int], seconds: float, targets: Sequence[str] = TARGETS) -> Fuzzer:
    """Networks of ``seeds`` until ``seconds`` are over."""
    until = time.monotonic() + seconds
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        fuzzer = Fuzzer(Path(folder))
        for number, seed in enumerate(seeds):
            if time.monotonic() > until:
                break
            fuzzer.network(seed, targets, list(FAULTS)[number % len(FAULTS)])
    return fuzzer


def main(argv: Sequence[str] | None = None) -> int:
    """Print the counts and every find; 1 when an engine differed from PyTorch or a planted fault was missed."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz.engines", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=0, help="the first one; a find names its own")
    parser.add_argument("--target", action="append", choices=TARGETS)
    arguments = parser.parse_args(argv)
    fuzzer = run(iter(range(arguments.seed, sys.maxsize)), arguments.seconds, arguments.target or TARGETS)
    for find in fuzzer.finds:
        print(f"seed {find.seed}, {find.target}: {find.words}\n    {find.said}")
    for missed in fuzzer.missed:
        print(f"missed: {missed}")
    print(", ".join(f"{name} {count}" for name, count in sorted(fuzzer.counts.items())))
    return int(bool(fuzzer.finds or fuzzer.missed))


if __name__ == "__main__":
    sys.exit(main())
