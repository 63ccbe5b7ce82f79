"""The findings about an artifact, as plain types: a manifest stores them, and the rest of the package reads them.

This is the lowest layer: it uses the standard library only and imports nothing else of the package. Each number has a
type and each section a class, so that no decision depends on a key or on the text of a sentence. JSON cannot represent
numbers that are not finite: a figure that may be infinite or undefined is ``None``, here as well as in the file.
"""

from ulsam_deploy.device.findings.agreement import (
    Agreed,
    Agreement,
    AgreementBudget,
    InterpreterRun,
    OutputAgreement,
    PlainRun,
)
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
from ulsam_deploy.device.findings.replay import COVERED, Replay, ReplayDepth, ReplayedModule
from ulsam_deploy.device.findings.statistics import Interval, Latency, Paired, Summary

__all__ = [
    "COVERED",
    "Agreed",
    "Agreement",
    "AgreementBudget",
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
    "InterpreterRun",
    "Interval",
    "Latency",
    "OutputAgreement",
    "OutputCheck",
    "Paired",
    "PlainRun",
    "Quantized",
    "Reason",
    "ReasonKind",
    "Replay",
    "ReplayDepth",
    "ReplayedModule",
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
