"""``verify --against``: does this file, made by any tool, compute what the checkpoint computes?"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ulsam_deploy.against import ports, reproduction
from ulsam_deploy.against.case import Case
from ulsam_deploy.against.guard import Guarded
from ulsam_deploy.device import plugins
from ulsam_deploy.device.agreement import measure_agreement, with_agreement
from ulsam_deploy.device.arrays import ArrayMap
from ulsam_deploy.device.bundle import Evidence
from ulsam_deploy.device.elsewhere.limits import Limits
from ulsam_deploy.device.engines import engines_of, runtime_for
from ulsam_deploy.device.errors import Exit, RefusedError, UlsamError, UsageError
from ulsam_deploy.device.findings import Verdict
from ulsam_deploy.device.interpreters import with_interpreters
from ulsam_deploy.device.parity import AttentionState, Golden, check, tolerance_of
from ulsam_deploy.device.precisions import CALIBRATED, NO_CALIBRATION
from ulsam_deploy.device.progress import Progress
from ulsam_deploy.device.runtime import Runtime
from ulsam_deploy.device.types import EvidenceLevel, TensorSpec
from ulsam_deploy.device.verify import verdict_code, worst_batch
from ulsam_deploy.exporting import identity
from ulsam_deploy.exporting.ablation import Ablations, Shown, gathered
from ulsam_deploy.exporting.build import located
from ulsam_deploy.exporting.gates import read_gates, wants_reading
from ulsam_deploy.exporting.network import network_stages
from ulsam_deploy.exporting.options import ExportOptions
from ulsam_deploy.exporting.pipeline import cache_of
from ulsam_deploy.exporting.prepare import Prepared, prepare
from ulsam_deploy.exporting.replayed import replayed
from ulsam_deploy.exporting.workspace import Workspace


@dataclass(frozen=True)
class Question:
    """The options for checking one artifact; what is ``None`` is derived from the file.

    ``reproduce`` is a folder for a failure's reproduction; ``trust_native`` allows native code (a TensorRT engine).
    """

    artifact: Path
    layout: str | None = None
    precision: str | None = None
    limits: Limits = field(default_factory=Limits)
    reproduce: Path | None = None
    trust_native: bool = False


@dataclass(frozen=True)
class Foreign:
    """The result of the check; ``reproduced`` says whether the requested folder was written."""

    target: str
    precision: str
    case: Case
    evidence: Evidence
    notes: tuple[str, ...]
    reproduced: bool

    @property
    def exit_code(self) -> Exit:
        """The exit code of the verdict."""
        return verdict_code(self.evidence)


def verify_against(options: ExportOptions, question: Question, progress: Progress | None = None) -> Foreign:
    """Check ``question.artifact`` against the checkpoint ``options.model``; the batch is the artifact's own.

    int8 is judged by control runs with the ranges of ``options.calibration``, and on real inputs only: part of that
    set, and the user's own probes.

    Raises:
        UsageError: The kind of file is unknown, it cannot be this network, int8 comes without a calibration set, or
            another precision with one.
        RefusedError: The file refers to files outside its folder, or would run code.
        UnavailableError: Its engine is missing.
        ExportError: The engine cannot open or run it, crashes, or exceeds the limits.
    """
    progress = progress or Progress()
    engine = _engine(question)
    if question.reproduce:
        reproduction.check_folder(question.reproduce)
    guarded = Guarded(engine, question.artifact, question.limits)
    with progress.stage("open") as said:
        stated = guarded.open()
        said.append(f"by {engine.name}, in a process of its own")
    inputs, outputs = stated.inputs, stated.outputs
    precision = question.precision or _precision((*inputs, *outputs))
    _check_calibration(options, precision)
    judged = dataclasses.replace(options, batch=ports.batch_of(inputs) or 1, precisions=(precision,))
    with Workspace(cache_of(judged, None)) as workspace:
        prepared = prepare(network_stages(judged, progress), judged, workspace, progress)
        prepared.check(precision)
        wanted = prepared.card
        mapped = ports.map_inputs(inputs, wanted.inputs, question.layout)
        named = dict(zip((spec.name for spec in wanted.inputs), mapped))
        case = Case(guarded, stated.files, named, ports.map_outputs(outputs, wanted.outputs, question.layout))
        evidence, reproduced = _judge(prepared, case, precision, judged, question.reproduce, progress)
        notes = (*prepared.notes, *_notes(case, len(outputs), precision, question))
    return Foreign(engine.target, precision, case, evidence, notes, reproduced)


def _judge(
    prepared: Prepared, case: Case, precision: str, options: ExportOptions, folder: Path | None, progress: Progress
) -> tuple[Evidence, bool]:
    """Run and check; for a failure, find where it goes wrong and write a reproduction to ``folder``."""
    golden = prepared.golden.at(precision)
    with progress.stage("run and check") as said:
        produced, facts = case.run(golden.inputs)
        judged = functools.partial(
            check, golden, produced, tolerance=tolerance_of(precision), outputs_decide=precision == "fp32"
        )
        report = judged()
        if wants_reading(prepared, report, precision):
            gates = read_gates(prepared, golden, lambda feed: case.values(feed, prepared.batch)[0])
            report = judged(gates_inside=gates)
            judged = functools.partial(judged, gates_inside=gates)
        said.append(report.verdict.value)
    if (
        any(block.state is AttentionState.INCONCLUSIVE for block in report.blocks)
        and (ablations := _ablations(prepared, case, golden, progress)).outputs
    ):
        report = judged(artifact_ablations=ablations.outputs, inside=ablations.inside)
    evidence = Evidence(EvidenceLevel.EXECUTED, report.verdict, report.reasons, report, engine=facts)
    evidence = with_agreement(evidence, measure_agreement(golden, produced, options.budget.agreed), precision)
    with progress.stage("replay") as said:
        captured = prepared.network.captured()
        evidence = replayed(
            evidence, captured, golden, precision, lambda feed: case.values(feed, prepared.batch)[0],
            lambda feed: case.run(feed)[0], options.replay, case.guarded.grids,
        )  # fmt: skip
        said.append(evidence.verdict.value)
    batch = worst_batch(evidence, golden, next(iter(case.inputs.values())).shape[0])
    inputs = {name: array[batch] for name, array in golden.inputs.items()}
    if evidence.verdict is Verdict.FAIL:
        rows = batch.stop - batch.start
        evidence = located(prepared, evidence, inputs, lambda feed: case.values(feed, rows)[0], precision, progress)
    sound = evidence.verdict is Verdict.PASS
    with progress.stage("interpreters") as said:
        evidence = with_interpreters(
            evidence, case.guarded.engine.target, prepared.golden, precision, batch.stop - batch.start, case.run_in
        )
        said.append(", ".join(f"{row.title} {row.verdict.value}" for row in evidence.interpreters) or "no others")
    if folder is None or evidence.verdict is Verdict.PASS:
        return evidence, False
    if sound:  # only another interpreter shows the failure
        failed = {row.name for row in evidence.interpreters if row.verdict is Verdict.FAIL}
        other = next(each for each in engines_of(case.guarded.engine.target) if each.name in failed)
        (produced, facts), case = case.run_in(other, golden.inputs), case.opened_by(other)
    found = {name: array[batch] for name, array in produced.items()}
    reproduction.write(folder, case, inputs, _truth(prepared, inputs), found, facts)
    return evidence, True


def _ablations(prepared: Prepared, case: Case, golden: Golden, progress: Progress) -> Ablations:
    """The results of the artifact's ablations; empty if its softmaxes cannot be matched with the network's blocks."""
    with progress.stage("ablations") as said:
        try:
            seen = _inside(prepared, case)
            shares = identity.shares(case.guarded.softmaxes(), seen, [blocks for _, blocks in prepared.watched()])
            if not shares:
                said.append("none: it is not certain which softmaxes of this file are the attention of the blocks")
                return Ablations()
            found = (Shown(case.run(golden.inputs, share)[0], _inside(prepared, case, share)) for share in shares)
            ablations = gathered(prepared, seen, found)
        except UlsamError as error:  # an ablation is additional evidence, if it can be made
            said.append(f"none: {error.found.splitlines()[0]}")
            return Ablations()
        said.append(f"{len(shares)}, each without one block's attention")
    return ablations


def _inside(prepared: Prepared, case: Case, without: Sequence[int] = ()) -> Sequence[ArrayMap]:
    """All inner values of the artifact, or of an ablation, on each watched batch; empty if they cannot be read."""
    feeds = [feed for feed, _ in prepared.watched()]
    try:
        return case.values({n: np.concatenate([f[n] for f in feeds]) for n in feeds[0]}, prepared.batch, without)
    except UlsamError:  # the outputs of the ablations alone are evidence, too
        return []


def _engine(question: Question) -> type[Runtime]:
    """The engine for this kind of file."""
    path = question.artifact
    engines: dict[str, type[Runtime]] = plugins.loaded(plugins.RUNTIMES)
    kinds = {suffix: engine.target for engine in engines.values() for suffix in engine.opens}
    target = kinds.get(path.suffix.lower())
    if target is None:
        raise UsageError(f"'{path.name}' is of an unknown kind", expected=" ".join(sorted(kinds)))
    if not path.is_file():
        raise UsageError(f"there is no file '{path}'", expected="an artifact", todo="check the path")
    if any(engine.native for engine in engines_of(target)) and not question.trust_native:
        raise RefusedError(
            f"'{path.name}' is native code that runs when it is opened",
            expected="an engine that you built, or whose maker you trust",
            todo="say so with --trust-native",
        )
    return runtime_for(target)


def _precision(specs: Sequence[TensorSpec]) -> str:
    return "fp16" if any(spec.dtype == "float16" for spec in specs) else "fp32"


def _check_calibration(options: ExportOptions, precision: str) -> None:
    """Require a calibration set for precisions with ranges, and refuse one for the others."""
    if precision in CALIBRATED and options.calibration is None:
        raise UsageError(f"{precision} is judged by ranges", expected="a calibration set", todo=NO_CALIBRATION)
    if precision not in CALIBRATED and options.calibration is not None:
        raise UsageError(
            f"a calibration set means nothing for {precision}",
            expected=" or ".join(CALIBRATED),
            todo="say what the artifact is with --precision",
        )


def _truth(prepared: Prepared, inputs: ArrayMap) -> ArrayMap:
    """PyTorch's float64 outputs for one batch of the artifact."""
    import torch

    from ulsam_deploy.graph import Evaluator, batches, of_each

    program = prepared.network.captured()
    evaluator = Evaluator(program)
    tensors = {spec.name: torch.from_numpy(inputs[spec.name]) for spec in program.inputs}
    parts = of_each(evaluator.run, batches(tensors, program.batch or 1))
    return {name: np.concatenate([part[name].numpy() for part in parts]) for name in parts[0]}


def _notes(case: Case, outputs: int, precision: str, question: Question) -> Iterator[str]:
    """What was assumed about the file, so that the user can correct it."""
    for name, port in case.inputs.items():
        if port.layout == "NHWC" and question.layout is None:
            yield f"input '{port.name}' is taken as NHWC"
        if port.name != name:
            yield f"input '{port.name}' is taken as the network's '{name}'"
    for name, port in case.outputs.items():
        if port.name != name:
            yield f"output '{port.name}' is taken as the network's '{name}'"
    if len(case.outputs) < outputs:
        yield f"{outputs - len(case.outputs)} other outputs are not checked"
    if precision != "fp32" and question.precision is None:
        yield f"judged as {precision}, because its inputs or outputs are"
