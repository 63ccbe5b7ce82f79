"""Proof that a rewrite changed nothing: the rewritten program equals the captured one in float64, to rounding."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from ulsam_deploy.device.errors import ExportError
from ulsam_deploy.graph.evaluate import Evaluator
from ulsam_deploy.graph.program import Program

#: One rounding of float64, the least that an input can be off by.
_ROUNDOFF = 2.0**-52
#: How many times the effect of one rounding of the input a rewrite may differ: a deep network rounds about a thousand
#: times on the way, each time with an effect like that of the input's own rounding or less.
_ROUNDINGS = 2.0**10


class Proof:
    """What ``captured`` computes in float64 on random and adversarial inputs: every rewrite of it is held against that.

    What counts as rounding is measured on the captured network itself, for each input and output: how far it moves
    when every input element is off by one rounding.
    """

    def __init__(self, captured: Program) -> None:
        evaluator = Evaluator(captured)
        self._inputs = _inputs(captured)
        self._expected = {kind: evaluator.run(inputs) for kind, inputs in self._inputs.items()}
        self._shaken = {kind: evaluator.run(_shaken(inputs)) for kind, inputs in self._inputs.items()}

    def check(self, rewritten: Program, what: str) -> float:
        """The largest relative difference between the two programs.

        Raises :class:`ExportError`, naming ``what`` was done and where they differ, when it is more than rounding.
        """
        return self.hold(Evaluator(rewritten).run, what)

    def hold(self, other: Callable[[Sequence[Tensor]], Mapping[str, Tensor]], what: str) -> float:
        """The same for any function of one batch of inputs, in order, that gives the outputs by name in float64."""
        worst = 0.0
        for kind, inputs in self._inputs.items():
            given = other(inputs)
            for name, y in self._expected[kind].items():
                difference = _difference(given[name], y)
                allowed = _ROUNDINGS * max(_difference(self._shaken[kind][name], y), _ROUNDOFF)
                worst = max(worst, difference)
                if not difference <= allowed:
                    raise ExportError(
                        f"{what} changed the network: output '{name}' differs by {difference:.2g} on {kind} inputs",
                        expected=f"at most {allowed:.2g} of the largest output, in float64",
                        todo="report this network: a rewrite that is not exact is a fault of this tool",
                    )
        return worst


def prove(captured: Program, rewritten: Program, what: str) -> float:
    """:meth:`Proof.check` for a single rewrite."""
    return Proof(captured).check(rewritten, what)


def _shaken(inputs: list[Tensor]) -> list[Tensor]:
    """Every element up or down by one rounding of float64, at random but the same each time."""
    generator = torch.Generator().manual_seed(2)
    return [
        x.double() * (1 + _ROUNDOFF * (2.0 * torch.randint(0, 2, x.shape, generator=generator) - 1)) for x in inputs
    ]


def _difference(given: Tensor, expected: Tensor) -> float:
    if given.shape != expected.shape:
        return float("inf")
    if not expected.is_floating_point():
        return float((given != expected).sum())
    both = torch.isnan(given) & torch.isnan(expected)
    apart = torch.where(both, 0.0, (given - expected).abs()).max()
    return float(apart / expected.abs().nan_to_num().max().clamp_min(torch.finfo(torch.float64).tiny))


def _inputs(program: Program) -> dict[str, list[Tensor]]:
    """Inputs under which attention is ordinary, peaked, tied, saturated and negative."""
    random = list(program.example(seed=1).values())
    spike = [torch.zeros_like(x) for x in random]
    for x in spike:
        x.flatten(1)[:, x[0].numel() // 2 :: 97] = 40.0
    return {
        "random": random,
        "spiked": spike,
        "constant": [torch.full_like(x, 0.5) for x in random],
        "large": [50.0 * x for x in random],
        "negative": [-x.abs() for x in random],
    }
