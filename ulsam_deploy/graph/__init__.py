"""The network as a program: ``torch.export`` capture, fuse, lower, proof, and evaluation in float64 with ablations.

Importing this package does not import torch: the parts that the command line needs, :mod:`.interfaces` and
:mod:`.resolution`, work without it. The names here are imported on first use.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ulsam_deploy.graph.control_runs import measure_floors
    from ulsam_deploy.graph.determinism import check_repeatable
    from ulsam_deploy.graph.evaluate import Evaluator, batches, of_each
    from ulsam_deploy.graph.fusion import fuse_attention
    from ulsam_deploy.graph.lowering import Lowering, lower
    from ulsam_deploy.graph.points import module_points
    from ulsam_deploy.graph.program import MAX_BATCH, Program, Signature, capture, signature
    from ulsam_deploy.graph.proof import Proof, prove
    from ulsam_deploy.graph.reference import make_golden

__all__ = [
    "MAX_BATCH",
    "Evaluator",
    "Lowering",
    "Program",
    "Proof",
    "Signature",
    "batches",
    "capture",
    "check_repeatable",
    "fuse_attention",
    "lower",
    "make_golden",
    "measure_floors",
    "module_points",
    "of_each",
    "prove",
    "signature",
]

#: The module that defines each name.
_PLACES = {
    "Evaluator": "evaluate",
    "Lowering": "lowering",
    "MAX_BATCH": "program",
    "Program": "program",
    "Proof": "proof",
    "Signature": "program",
    "batches": "evaluate",
    "of_each": "evaluate",
    "capture": "program",
    "check_repeatable": "determinism",
    "lower": "lowering",
    "make_golden": "reference",
    "module_points": "points",
    "prove": "proof",
    "fuse_attention": "fusion",
    "signature": "program",
    "measure_floors": "control_runs",
}


def __getattr__(name: str) -> Any:
    """The function or class called ``name``, its module imported on first use."""
    if name in _PLACES:
        return getattr(import_module(f"ulsam_deploy.graph.{_PLACES[name]}"), name)
    raise AttributeError(f"module 'ulsam_deploy.graph' has no attribute '{name}'")
