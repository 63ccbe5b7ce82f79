"""The Program: ``torch.export`` capture, raise, lower, proof, and evaluation in float64 with ablated twins."""

from ulsam_deploy.program.evaluate import Evaluator, batches
from ulsam_deploy.program.honest import yardstick
from ulsam_deploy.program.lowering import Lowering, lower
from ulsam_deploy.program.points import module_points
from ulsam_deploy.program.program import MAX_BATCH, Program, Signature, capture, signature
from ulsam_deploy.program.proof import Proof, prove
from ulsam_deploy.program.raising import raise_attention
from ulsam_deploy.program.truth import make_golden

__all__ = [
    "MAX_BATCH",
    "Evaluator",
    "Lowering",
    "Program",
    "Proof",
    "Signature",
    "batches",
    "capture",
    "lower",
    "make_golden",
    "module_points",
    "prove",
    "raise_attention",
    "signature",
    "yardstick",
]
