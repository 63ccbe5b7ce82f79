"""Every other interpreter of an artifact: one file, run by all engines of its target that are installed.

An artifact that only the engine it was made with has run may mean something else to another one, without an error: a
part of the format that one reads and another does not know. numpy only; device-safe.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path

import numpy as np

from ulsam_deploy.device.agreement import measure_agreement, with_agreement
from ulsam_deploy.device.arrays import ArrayMap
from ulsam_deploy.device.bundle import Evidence
from ulsam_deploy.device.elsewhere import job
from ulsam_deploy.device.elsewhere.jail import noted
from ulsam_deploy.device.elsewhere.limits import Limits
from ulsam_deploy.device.engines import batches_of, engines_of, produce, runtime_for
from ulsam_deploy.device.errors import UlsamError, UsageError
from ulsam_deploy.device.findings import EngineFacts, InterpreterRun, Reason, ReasonKind, Severity, Verdict
from ulsam_deploy.device.parity import Golden, apart, check, tolerance_of
from ulsam_deploy.device.proven import TWICE, as_recorded, concluded
from ulsam_deploy.device.runtime import Runtime
from ulsam_deploy.device.types import EvidenceLevel, TensorSpec

__all__ = ["MOST", "Given", "Opening", "Run", "given", "in_a_process", "python_of", "with_interpreters"]

#: How many probes the other interpreters run at most: reference kernels take a second each for a large network.
MOST = 64

#: The outputs of the artifact in an engine, (P, ...) by the golden set's names, and the engine's facts.
Run = Callable[[type[Runtime], ArrayMap], tuple[ArrayMap, EngineFacts]]


@dataclass(frozen=True)
class Opening:
    """A request to run the artifact in ``files`` on ``feed``, (P, ...) by input.

    ``engine``: its ``module:class``, because the Python that does it may be one where no plug-in is installed.
    """

    engine: str
    files: tuple[Path, ...]
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    feed: ArrayMap


@dataclass(frozen=True)
class Given:
    """The outputs, (P, ...) by name, and the engine's facts."""

    arrays: ArrayMap
    facts: EngineFacts


def given(asked: Opening) -> Given:
    """Run an artifact; the part of :func:`in_a_process` that runs there."""
    module, _, name = asked.engine.partition(":")
    engine: type[Runtime] = getattr(import_module(module), name)
    with engine(asked.files, asked.inputs, asked.outputs) as runtime:
        return Given(produce(runtime, asked.feed), noted(runtime.facts()))


def in_a_process(
    files: Sequence[Path], inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec], limits: Limits
) -> Run:
    """A way to run an artifact that survives an engine that crashes.

    Args:
        files: The artifact's files.
        inputs: Its inputs.
        outputs: Its outputs.
        limits: The limits of each process.
    """

    def run(engine: type[Runtime], feed: ArrayMap) -> tuple[ArrayMap, EngineFacts]:
        absolute = tuple(path.absolute() for path in files)
        asked = Opening(f"{engine.__module__}:{engine.__name__}", absolute, tuple(inputs), tuple(outputs), feed)
        found = job.do(given, asked, limits, f"{engine.name} on {files[0].name}", python_of(engine))
        return found.arrays, found.facts

    return run


def python_of(engine: type[Runtime]) -> str:
    """The Python of another environment that has ``engine``, as its variable names it; empty for this one.

    Some engines need packages that the tools which export cannot have: tflite-runtime needs NumPy 1.

    Raises:
        UsageError: It names no program.
    """
    variable = f"ULSAM_DEPLOY_PYTHON_{engine.name.upper().replace('-', '_')}"
    named = os.environ.get(variable, "")
    if named and shutil.which(named) is None:
        raise UsageError(f"{variable} names '{named}', which is no program", expected="the Python of an environment")
    return named


def with_interpreters(
    evidence: Evidence, target: str, golden: Golden, precision: str, batch: int | None, run: Run
) -> Evidence:
    """Add to ``evidence`` what the other engines of ``target`` make of the same artifact; one that differs fails it.

    What an engine refuses is not a failure, because it says so; nor is one that is not installed. Each has a row.
    Retention is not measured again: it takes ablations in each engine, and this is the same file.

    Args:
        evidence: What the target's own engine showed.
        target: The artifact's target.
        golden: The golden set.
        precision: The artifact's precision.
        batch: Its batch size; ``None`` if it is dynamic.
        run: Runs the artifact in an engine.

    Returns:
        The evidence with a row for each; with a reason for each that differs, which fails it.
    """
    if evidence.level < EvidenceLevel.EXECUTED:
        return evidence
    engine = runtime_for(target)
    part = _sample(golden.at(precision), batch)
    rows, whole = list[InterpreterRun](), None
    for other in engines_of(target):
        if other is engine:
            continue
        row = InterpreterRun(other.name, Verdict.UNVERIFIED)
        here = other.available()
        if not here.usable and not python_of(other):
            rows.append(replace(row, note="; ".join(filter(None, (here.detail, here.todo)))))
            continue
        whole = run(engine, part.inputs)[0] if whole is None else whole
        try:
            produced, facts = run(other, part.inputs)
            rows.append(_judged(evidence, part, precision, whole, produced, replace(row, engine=facts)))
        except UlsamError as error:
            rows.append(replace(row, note=" ".join(error.found.split())))
    reasons = [reason for row in rows if (reason := _differs(evidence, precision, row))]
    found = replace(evidence, interpreters=tuple(rows))
    return concluded(found, (*reasons, *found.reasons)) if reasons else found


def _sample(golden: Golden, batch: int | None) -> Golden:
    """At most :data:`MOST` probes of ``golden`` in whole batches, from all over it."""
    count = len(golden.probes)
    slices = list(batches_of(count, batch or 1))
    wanted = max(1, min(len(slices), MOST // (batch or 1)))
    chosen = [slices[round(place)] for place in np.linspace(0, len(slices) - 1, wanted)]
    rows = [row for one in chosen for row in range(count)[one]]
    return replace(golden.take(rows), floors=golden.floors)


def _judged(
    evidence: Evidence, golden: Golden, precision: str, whole: ArrayMap, produced: ArrayMap, row: InterpreterRun
) -> InterpreterRun:
    """``row`` with figures and verdict: as the artifact's own, and in low precision without what outputs say of blocks.

    There only ablations decide about a block.
    """
    report = check(golden, produced, tolerance=tolerance_of(precision))
    found = Evidence(EvidenceLevel.EXECUTED, report.verdict, report.reasons, report)
    budget = evidence.agreement.budget if evidence.agreement else None
    found = with_agreement(found, measure_agreement(golden, produced, budget), precision)
    found = as_recorded(found, evidence, precision)
    faults = [
        reason.text
        for reason in found.reasons
        if reason.kind.severity is Severity.FAULT
        and (precision == "fp32" or reason.kind is not ReasonKind.ATTENTION_FAULT)
    ]
    distance = apart(golden, produced, whole)
    verdict = Verdict.FAIL if faults or _is_far(distance, evidence, precision) else Verdict.PASS
    return replace(
        row,
        verdict=verdict,
        probes=len(golden.probes),
        error=report.finite_error,
        apart=distance,
        agreement=found.agreement,
        note=faults[0].partition(" To do: ")[0] if faults else "",
    )


def _is_far(distance: float | None, evidence: Evidence, precision: str) -> bool:
    """Whether two engines are farther apart than either may be from PyTorch."""
    own = evidence.parity.finite_error if evidence.parity and evidence.verdict is Verdict.PASS else None
    return distance is None or distance > max(tolerance_of(precision), TWICE * (own or 0.0))


def _differs(evidence: Evidence, precision: str, row: InterpreterRun) -> Reason | None:
    """The fault of an interpreter that computes something else than the target's own engine, if it does."""
    if row.verdict is not Verdict.FAIL:
        return None
    if evidence.verdict is Verdict.FAIL and not _is_far(row.apart, evidence, precision):
        return None  # both compute the same, and the artifact's own reasons say what is wrong with it
    own = evidence.engine.title if evidence.engine else "the engine of its target"
    far = "further than can be said" if row.apart is None else f"by {row.apart:.3g} noise floors"
    sentence = (
        f"{row.title} and {own} do not compute the same from this file: they differ {far} on {row.probes} probes, and "
        f"neither reports an error."
    )
    return Reason(row.name, ReasonKind.INTERPRETER_FAULT, " ".join(filter(None, (sentence, row.note))))
