"""Reports during training which ULSAM blocks have attention so diffuse that int8 or fp16 will lose it.

    with AttentionWatch(model):
        train(model)

A map sums to 1 over H*W positions, so uniform attention has a peak of 1/(H*W), and low precision rounds such small
values to zero. This can be corrected during training, but hardly afterwards.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from ulsam_deploy.device.errors import UsageError

from .ulsam import ULSAM, SubSpace

#: The attention below which a precision computes ``x`` and not ``x + a x``: half a step of a softmax in int8 (steps of
#: 1/256), and half a step of fp16 next to 1, where ``1 + a`` is rounded.
LOST_BELOW = {"int8": 1 / 512, "fp16": 2.0**-11}
_WRITTEN = {"int8": "1/512", "fp16": "2^-11"}


@dataclass(frozen=True)
class Peaks:
    """The largest attention value of each map of one block: mean and maximum over images and subspaces.

    ``positions`` is H*W of its maps.
    """

    path: str
    positions: int
    mean: float
    maximum: float

    @property
    def lost(self) -> dict[str, str]:
        """How much of the attention each precision of :data:`LOST_BELOW` loses: ``"all"`` of it, or ``"most"``.

        All if no map has a peak above the precision's limit, most if the average map has not; others are omitted.
        """
        limits = {name: limit for name, limit in LOST_BELOW.items() if self.mean < limit}
        return {name: "all" if self.maximum < limit else "most" for name, limit in limits.items()}

    def __str__(self) -> str:
        fates = [f"{name} loses {share} of it (under {_WRITTEN[name]})" for name, share in self.lost.items()]
        return (
            f"{self.path}: attention peaks at {self.mean:.2g} on average and {self.maximum:.2g} at most; "
            f"{', '.join(fates) or 'it survives int8 and fp16'}"
        )


class AttentionWatch:
    """A context manager that watches the attention of every ULSAM block; leaves nothing behind on the model.

    After every ``every`` batches (runs of ``model``) it judges what it saw and starts again: it reports each block of
    which int8 or fp16 would lose more or less than at the last judgement. Outside the context it costs nothing.

    Args:
        model: The network.
        every: The number of batches between judgements; ``None``: never judge, only read :meth:`peaks`.
        say: Receives each line, :class:`Peaks` as text; by default it prints to stderr.

    Raises:
        UsageError: ``model`` has no ULSAM block.
    """

    def __init__(
        self, model: nn.Module, *, every: int | None = 100, say: Callable[[str], object] | None = None
    ) -> None:
        if every is not None and every < 1:
            raise UsageError(
                f"attention is to be judged every {every} batches", expected="1 or more, or None for never"
            )
        self._blocks = {path: module for path, module in model.named_modules() if isinstance(module, ULSAM)}
        if not self._blocks:
            raise UsageError(
                "the network has no ULSAM block to watch", expected="ulsam_deploy.models.ulsam.ULSAM in it"
            )
        self._model, self._every, self._say = model, every, say or _to_stderr
        self._seen: dict[str, list[Tensor]] = {}
        self._positions: dict[str, int] = {}
        self._told: dict[str, dict[str, str]] = {}
        self._batches = 0
        self._hooks: list[RemovableHandle] = []

    def __enter__(self) -> AttentionWatch:
        for path, block in self._blocks.items():
            for subspace in block.subspaces:
                assert isinstance(subspace, SubSpace)
                self._hooks.append(subspace.softmax.register_forward_hook(partial(self._record, path)))
        self._hooks.append(self._model.register_forward_hook(self._count))
        return self

    def __exit__(self, *exc: object) -> None:
        for hook in self._hooks:
            hook.remove()
        self._hooks.clear()

    def peaks(self) -> list[Peaks]:
        """The peaks since the context was entered or last judged, in the execution order of the blocks."""
        found = []
        for path, rows in self._seen.items():
            count, total, maximum = torch.stack(rows).cpu().double().unbind(1)
            found.append(Peaks(path, self._positions[path], float(total.sum() / count.sum()), float(maximum.max())))
        return found

    def _record(self, path: str, _module: nn.Module, _inputs: object, output: Tensor) -> None:
        """Keep three numbers of each batch on its device, so that nothing here waits for an accelerator."""
        peaks = output.detach().flatten(1).amax(1).float()
        row = torch.stack([torch.full_like(peaks[0], len(peaks)), peaks.sum(), peaks.max()])
        self._seen.setdefault(path, []).append(row)
        self._positions[path] = output[0].numel()

    def _count(self, _module: nn.Module, _inputs: object, _output: object) -> None:
        self._batches += 1
        if self._every and self._batches % self._every == 0:
            self._judge()

    def _judge(self) -> None:
        for peaks in self.peaks():
            if peaks.lost != self._told.get(peaks.path, {}):
                self._say(str(peaks))
            self._told[peaks.path] = peaks.lost
        self._seen.clear()


def _to_stderr(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
