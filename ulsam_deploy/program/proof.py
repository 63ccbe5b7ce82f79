"""Proof that a rewrite changed nothing: the rewritten program equals the captured one in float64, to rounding."""

from __future__ import annotations

import torch
from torch import Tensor

from ulsam_deploy.errors import ExportError
from ulsam_deploy.program.evaluate import Evaluator
from ulsam_deploy.program.program import Program

#: Largest difference allowed, relative to the largest output. A deep network gathers some thousand roundings of 2^-53
#: (1e-13 in all); a rewrite that is wrong anywhere moves an output by far more than this.
ROUNDING = 2.0**-36


def prove(captured: Program, rewritten: Program, what: str) -> float:
    """The largest relative difference between two programs in float64 over random and adversarial inputs.

    Raises :class:`ExportError`, naming ``what`` was done and where it differs, when that is more than rounding.
    """
    before, after = Evaluator(captured), Evaluator(rewritten)
    worst = 0.0
    for kind, inputs in _inputs(captured).items():
        expected, given = before.run(inputs), after.run(inputs)
        for name, y in expected.items():
            difference = _difference(given[name], y)
            worst = max(worst, difference)
            if not difference <= ROUNDING:
                raise ExportError(
                    f"{what} changed the network: output '{name}' differs by {difference:.2g} on {kind} inputs",
                    expected=f"at most {ROUNDING:.2g} of the largest output, in float64",
                    todo="report this network: a rewrite that is not exact is a fault of this tool",
                )
    return worst


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
