"""Says while a network trains which of its ULSAM blocks attend so diffusely that int8 or fp16 will lose it.

    with AttentionWatch(model):
        train(model)

A map sums to 1 over H*W positions, so attention that looks nowhere peaks at 1/(H*W), and low precision rounds what is
small to nothing. That can be cured while the network still trains, and hardly afterwards.
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

        All when no map peaked above the precision's limit, most when the average map did not; else it is left out.
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
    """Watches the attention of every ULSAM block of ``model`` while it is entered; leaves nothing behind on the model.

    After every ``every`` batches (runs of ``model``) it judges what it saw and starts anew: ``say`` (by default: print
    to stderr) gets a line, :class:`Peaks` as text, for each block of which int8 or fp16 would lose more or less than
    when it was judged last. ``every=None`` judges nothing; read :meth:`peaks`. Costs nothing while it is not entered.
    Raises :class:`UsageError` when ``model`` has no ULSAM block.
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
        """What was seen since the watch was entered or last judged, in the order in which the blocks ran."""
        found = []
        for path, rows in self._seen.items():
            count, total, maximum = torch.stack(rows).cpu().double().unbind(1)
            found.append(Peaks(path, self._positions[path], float(total.sum() / count.sum()), float(maximum.max())))
        return found

    def _record(self, path: str, _module: nn.Module, _inputs: object, output: Tensor) -> None:
        """Keep three numbers of each batch on its device: nothing here waits for an accelerator."""
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
