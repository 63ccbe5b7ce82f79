"""Proof that a rewrite changed nothing: the rewritten program equals the captured one in float64, up to rounding."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from ulsam_deploy.device.errors import ExportError
from ulsam_deploy.graph.evaluate import Evaluator
from ulsam_deploy.graph.program import Program

#: One rounding of float64: the smallest relative error of an input.
_ROUNDOFF = 2.0**-52
#: A rewrite may differ by this multiple of the effect of one rounding of the input: a deep network rounds about a
#: thousand times, and each rounding has at most about the effect of rounding the input.
_ROUNDINGS = 2.0**10


class Proof:
    """What ``captured`` computes in float64 on random and adversarial inputs, to compare every rewrite of it with.

    What counts as rounding is measured on the captured network itself, for each input and output: how much the output
    changes when every input element changes by one rounding.
    """

    def __init__(self, captured: Program) -> None:
        evaluator = Evaluator(captured)
        self._inputs = _inputs(captured)
        self._expected = {kind: evaluator.run(inputs) for kind, inputs in self._inputs.items()}
        self._shaken = {kind: evaluator.run(_shaken(inputs)) for kind, inputs in self._inputs.items()}

    def check(self, rewritten: Program, what: str) -> float:
        """Compare ``rewritten`` with the captured program.

        Args:
            rewritten: The program after the rewrite.
            what: Names the rewrite in the error message.

        Returns:
            The largest relative difference.

        Raises:
            ExportError: The difference is more than rounding; names the output that differs.
        """
        return self.hold(Evaluator(rewritten).run, what)

    def hold(self, other: Callable[[Sequence[Tensor]], Mapping[str, Tensor]], what: str) -> float:
        """Check any function that takes one batch of inputs, in order, and gives float64 outputs by name."""
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
    """Call :meth:`Proof.check` for a single rewrite."""
    return Proof(captured).check(rewritten, what)


def _shaken(inputs: list[Tensor]) -> list[Tensor]:
    """Every element moved up or down by one rounding of float64, with a fixed seed."""
    generator = torch.Generator().manual_seed(2)
    return [
        x.double() * (1 + _ROUNDOFF * (2.0 * torch.randint(0, 2, x.shape, generator=generator) - 1)) for x in inputs
    ]


def _difference(given: Tensor, expected: Tensor) -> float:
    if given.shape != expected.shape:
        return float("inf")
    if not expected.is_floating_point():
        return float((given != expected).sum())
    if not expected.numel():
        return 0.0
    same = (torch.isnan(given) & torch.isnan(expected)) | (given == expected)  # two infinities are the same as well
    apart = torch.where(same, 0.0, (given - expected).abs()).max()
    largest = torch.where(expected.isfinite(), expected.abs(), 0.0).max()
    return float(apart.nan_to_num(nan=torch.inf) / largest.clamp_min(torch.finfo(torch.float64).tiny))


def _inputs(program: Program) -> dict[str, list[Tensor]]:
    """Inputs that make the attention ordinary, peaked, tied, saturated and negative."""
    random = list(program.example(seed=1).values())
    spike = [torch.zeros_like(x) for x in random]
    for x in spike:
        x.reshape(len(x), -1)[:, x[0].numel() // 2 :: 97] = 40.0
    return {
        "random": random,
        "spiked": spike,
        "constant": [torch.full_like(x, 0.5) for x in random],
        "large": [50.0 * x for x in random],
        "negative": [-x.abs() for x in random],
    }
