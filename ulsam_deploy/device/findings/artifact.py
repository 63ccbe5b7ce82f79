"""What is known about an artifact besides its evidence: how it was made, and what was forecast and tried.

Standard library only; device-safe. A section that does not apply to an artifact is ``None`` or empty.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ulsam_deploy.device.findings.engine import Scalar
from ulsam_deploy.device.findings.parity import Floor, Report, Retention, Verdict
from ulsam_deploy.device.findings.statistics import Interval, Paired

#: More operations than any block has, and more than a page can draw.
MOST_STEPS = 2000
_AMOUNT: Mapping[str, Any] = {"minimum": 0}
_SHA256 = {"pattern": "[0-9a-f]{64}", "words": "a SHA-256 in 64 small hexadecimal digits"}


@dataclass(frozen=True)
class Step:
    """One operation of a block's graph: its name, the shape of its result, and the indices of its input steps.

    A ``source`` of -1 is the block's input.
    """

    name: str
    shape: str
    sources: tuple[int, ...] = field(metadata={"minimum": -1, "longest": 100})


def check_steps(steps: Sequence[Step]) -> None:
    """Check that ``steps`` are a graph that can be drawn.

    Args:
        steps: The operations of one block in execution order.

    Raises:
        ValueError: There are more than :data:`MOST_STEPS`, or one takes its input from itself or a later step.
    """
    if len(steps) > MOST_STEPS:
        raise ValueError(f"{len(steps)} steps in one block; at most {MOST_STEPS} are expected")
    for number, step in enumerate(steps):
        if not all(-1 <= source < number for source in step.sources):
            raise ValueError(f"step {number} of the block takes from a step that is not in front of it")


@dataclass(frozen=True)
class Quantized:
    """How much of the network int8 covers.

    ``kept_operators``: those left in floating point. ``quantized_products`` of all ``products`` (convolutions, matrix
    products).
    """

    kept_operators: int = field(metadata=_AMOUNT)
    products: int = field(metadata=_AMOUNT)
    quantized_products: int = field(metadata=_AMOUNT)


@dataclass(frozen=True)
class CalibrationSet:
    """The calibration set that int8 took its ranges from: digest of the preprocessed arrays, and number of samples."""

    sha256: str = field(metadata=_SHA256)
    samples: int = field(metadata=_AMOUNT)


@dataclass(frozen=True)
class ResolutionRow:
    """The forecast retention of one block: with everything in the ``plain`` form, and in the chosen ``form``.

    ``form`` is empty where no form is stored in that precision. ``measured``: the block's retention, where it was run.
    """

    block: str
    plain: float
    form: str
    forecast: float
    measured: float | None


@dataclass(frozen=True)
class StudyFacts:
    """What was shown without an engine, on ``probes``: the network as a parser read it, run in NumPy.

    ``parsed``: the check in its stated precision. For fp16: ``models``, the check under each model of rounding;
    ``floors``, the noise floors of the gentlest one; ``survival``, the retention of each block under the harshest one.
    """

    probes: tuple[str, ...] = ()
    parsed: Report | None = None
    floors: Mapping[str, Floor] = field(default_factory=dict)
    models: Mapping[str, Report] = field(default_factory=dict)
    survival: tuple[Retention, ...] = ()


@dataclass(frozen=True)
class CompiledEngine:
    """The result of a build for one compute capability: layers by type, element types, fusions, or why it failed."""

    layers: Mapping[str, int] = field(default_factory=dict, metadata=_AMOUNT)
    types: Mapping[str, int] = field(default_factory=dict, metadata=_AMOUNT)
    fusions: tuple[str, ...] = ()
    refused: str = ""


@dataclass(frozen=True)
class DlaNode:
    """A node of the model with the ``rule`` that applies to it, and a sentence."""

    rule: str
    node: str
    message: str


@dataclass(frozen=True)
class DlaFacts:
    """The forecast for a DLA: ``loadables``, how many nodes are ``placed``, fallbacks to the GPU, and ``doubts``."""

    loadables: int = field(metadata=_AMOUNT)
    placed: int = field(metadata=_AMOUNT)
    fallbacks: tuple[DlaNode, ...]
    doubts: tuple[DlaNode, ...]


@dataclass(frozen=True)
class TensorRTFacts:
    """A kit for TensorRT: ``trtexec`` lines by purpose, and the evidence of a compiler on this machine, if any.

    ``engine``: the compiler and its version, empty without one. ``network_layers``: as its parser read the model.
    ``engines``: by compute capability. ``dla``: the forecast, where a DLA was requested.
    """

    trtexec: Mapping[str, str] = field(default_factory=dict)
    engine: str = ""
    network_layers: Mapping[str, int] = field(default_factory=dict, metadata=_AMOUNT)
    engines: Mapping[str, CompiledEngine] = field(default_factory=dict)
    dla: DlaFacts | None = None


@dataclass(frozen=True)
class BudgetLimits:
    """The budget of a search: :class:`~ulsam_deploy.exporting.budget.Budget`."""

    drop: float | None
    error: float
    retention: float
    size: str


@dataclass(frozen=True)
class AutoPoint:
    """One recipe that a search built and timed.

    ``error`` in noise floors and ``deviation``, the same error relative to the output's size, are ``None`` where an
    output could not be compared. ``ratio``: its time over fp32's. ``pareto``: no other point is better in both.
    ``missed``: which limits of the budget it exceeds, as text.
    """

    precision: str
    keep: tuple[str, ...]
    size: int = field(metadata=_AMOUNT)
    verdict: Verdict
    error: float | None = field(metadata=_AMOUNT)
    deviation: float | None = field(metadata=_AMOUNT)
    retention: Mapping[str, float | None]
    drop: Paired | None
    ratio: Interval
    reason: str
    pareto: bool
    chosen: bool
    missed: tuple[str, ...]


@dataclass(frozen=True)
class AutoFacts:
    """The outcome of the search for a precision: whether the budget is ``met``, a sentence, and the number of trials.

    ``points`` are the trials that were timed.
    """

    budget: BudgetLimits
    met: bool
    sentence: str
    trials: int = field(metadata=_AMOUNT)
    points: tuple[AutoPoint, ...] = field(metadata={"longest": 200})


@dataclass(frozen=True)
class TunedChoice:
    """One lowering that ``--tune`` tried for the blocks of ``geometry`` (:mod:`ulsam_deploy.exporting.search.tune`)."""

    geometry: str
    lowering: str
    ratio: Interval | None
    taken: bool
    why: str


@dataclass(frozen=True)
class ArtifactFacts:
    """What an exporter and the tool know about an artifact.

    ``operators``: how many of each. ``block``: the first attention block as lowered. ``lowerings``: the form of each
    block by its path. ``attention``: how attention is stored in a low precision. ``keep``: the modules requested to
    stay in floating point, ``None`` in fp32. ``resolution``: the forecast of each block. ``suggestions``: what to do,
    in sentences. ``lint``: what each device is documented to refuse. ``study``: what was shown without an engine.
    ``auto`` and ``tuned``: what searches tried. ``extra``: what an exporter adds; nothing in the core reads it.
    """

    operators: Mapping[str, int] = field(default_factory=dict, metadata=_AMOUNT)
    block: tuple[Step, ...] = ()
    lowerings: Mapping[str, str] = field(default_factory=dict)
    attention: str = ""
    quantized: Quantized | None = None
    keep: tuple[str, ...] | None = None
    calibration: CalibrationSet | None = None
    resolution: tuple[ResolutionRow, ...] = ()
    suggestions: tuple[str, ...] = ()
    lint: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    study: StudyFacts | None = None
    tensorrt: TensorRTFacts | None = None
    auto: AutoFacts | None = None
    tuned: tuple[TunedChoice, ...] | None = None
    extra: Mapping[str, Scalar] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Reject a ``block`` that is not a valid graph.

        Raises:
            ValueError: See :func:`check_steps`.
        """
        check_steps(self.block)
