"""What was found out about an artifact, as plain types: what a manifest holds, and what everything else reads.

Below everything else of the package: standard library only, and nothing of the package is imported. Each number has a
type and each section a class, so that a reader needs no key and no sentence to decide anything. JSON has no number for
what is not finite: where a figure may be infinite or undefined, it is ``None`` here as well as in the file.
"""

from ulsam_deploy.device.findings.artifact import (
    ArtifactFacts,
    AutoFacts,
    AutoPoint,
    BudgetLimits,
    CalibrationSet,
    CompiledEngine,
    DlaFacts,
    DlaNode,
    Quantized,
    ResolutionRow,
    Step,
    StudyFacts,
    TensorRTFacts,
    TunedChoice,
    check_steps,
)
from ulsam_deploy.device.findings.engine import EngineFacts, Scalar
from ulsam_deploy.device.findings.parity import (
    AttentionState,
    BlockCheck,
    Floor,
    OutputCheck,
    Reason,
    ReasonKind,
    Report,
    Retention,
    Severity,
    Statistic,
    Verdict,
)
from ulsam_deploy.device.findings.statistics import Interval, Latency, Paired, Summary

__all__ = [
    "ArtifactFacts",
    "AttentionState",
    "AutoFacts",
    "AutoPoint",
    "BlockCheck",
    "BudgetLimits",
    "CalibrationSet",
    "CompiledEngine",
    "DlaFacts",
    "DlaNode",
    "EngineFacts",
    "Floor",
    "Interval",
    "Latency",
    "OutputCheck",
    "Paired",
    "Quantized",
    "Reason",
    "ReasonKind",
    "Report",
    "ResolutionRow",
    "Retention",
    "Scalar",
    "Severity",
    "Statistic",
    "Step",
    "StudyFacts",
    "Summary",
    "TensorRTFacts",
    "TunedChoice",
    "Verdict",
    "check_steps",
]
