"""The Program: ``torch.export`` capture, raise, lower, proof, and evaluation in float64 with ablated twins."""

from ulsam_deploy.graph.control_runs import yardstick
from ulsam_deploy.graph.evaluate import Evaluator, batches
from ulsam_deploy.graph.fusion import raise_attention
from ulsam_deploy.graph.lowering import Lowering, lower
from ulsam_deploy.graph.modules import module_points
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
    "lower",
    "make_golden",
    "module_points",
    "prove",
    "raise_attention",
    "signature",
    "yardstick",
]
