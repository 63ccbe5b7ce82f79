"""Benchmarks bundles: every artifact that can run here is checked, then all are timed in alternating turns.

Standard library, numpy and the engines only; device-safe.
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from ulsam_deploy._version import __version__
from ulsam_deploy.device import plugins
from ulsam_deploy.device.arrays import Array
from ulsam_deploy.device.bench.board import Board
from ulsam_deploy.device.bench.intervals import log_times, middle, paired
from ulsam_deploy.device.bench.process import Subject
from ulsam_deploy.device.bench.result import Comparison, Disturbance, Measured, Parity, Result, Settings
from ulsam_deploy.device.bench.turns import Plan, TimedSubject, take_turns
from ulsam_deploy.device.bench.watch import worst
from ulsam_deploy.device.bundle import ArtifactRecord, Bundle
from ulsam_deploy.device.elsewhere.limits import Limits
from ulsam_deploy.device.engines import runtime_for
from ulsam_deploy.device.errors import UlsamError, UnavailableError, UsageError, combine
from ulsam_deploy.device.findings import Verdict
from ulsam_deploy.device.invocation import command
from ulsam_deploy.device.npz import UnsoundArraysError, read_arrays
from ulsam_deploy.device.parity import Golden
from ulsam_deploy.device.runtime import check_array
from ulsam_deploy.device.this_machine import proof
from ulsam_deploy.device.types import TensorSpec
from ulsam_deploy.device.verify import bounds, check_provider, execute_elsewhere, provider_of

__all__ = ["Benched", "Wanted", "bench_bundles", "compared"]


#: Of the intervals between engines: both bounds hold together in 95 % of runs.
CONFIDENCE = 0.95
#: Where GitHub, GitLab and Jenkins tell the commit.
_COMMITS = ("GITHUB_SHA", "CI_COMMIT_SHA", "GIT_COMMIT")


@dataclass(frozen=True)
class Wanted:
    """The options of a benchmark: empty ``targets`` mean all; ``inputs`` is an ``.npz`` with arrays by input name.

    ``provider``: what engines that can choose run on. ``limits``: those of a process that opens an artifact; in a
    process for timing, the timeout holds for each call of the engine.
    """

    plan: Plan
    targets: tuple[str, ...] = ()
    batch: int | None = None
    inputs: Path | None = None
    provider: str = ""
    limits: Limits = field(default_factory=Limits)


@dataclass(frozen=True)
class Benched:
    """The result of one bundle, and by label the errors of the artifacts that are missing from it."""

    result: Result
    left_out: Mapping[str, UlsamError]


@dataclass
class _Prepared:
    """A bundle whose artifacts are ready to be timed."""

    bundle: Bundle
    fed: str
    probes: str
    subjects: list[Subject] = field(default_factory=list)
    left_out: dict[str, UlsamError] = field(default_factory=dict)


def bench_bundles(
    bundles: Sequence[Bundle], wanted: Wanted, board: Board, tell: Callable[[str], None] = lambda _: None
) -> list[Benched]:
    """A result for each of ``bundles``; all artifacts of all bundles are timed in alternating turns in one session.

    Each artifact is opened in processes of its own, for the check and for timing. Raises :class:`RefusedError` for an
    altered bundle, :class:`UsageError` for inputs that don't fit, and if nothing at all can be timed here an error of
    the class of the worst reason: :class:`UnavailableError` without an engine.
    """
    prepared = [_prepare(bundle, wanted, tell) for bundle in bundles]
    subjects = [subject for each in prepared for subject in each.subjects]
    for each in prepared:
        if not each.subjects:
            raise _nothing(each)
    timed = take_turns(subjects, wanted.plan, board, tell)
    session = secrets.token_hex(8)
    remaining = iter(timed)
    return [_result(each, [next(remaining) for _ in each.subjects], wanted, board, session) for each in prepared]


def _prepare(bundle: Bundle, wanted: Wanted, tell: Callable[[str], None]) -> _Prepared:
    bundle.verify_integrity()
    golden = Golden.load(bundle.golden) if bundle.golden else None
    chosen = bundle.chosen(wanted.targets)
    check_provider(bundle, wanted.targets, wanted.provider)
    arrays, fed = _arrays(bundle, golden, wanted)
    prepared = _Prepared(bundle, fed, golden.digest if golden else "")
    for record in chosen:
        label = f"{record.target} {record.precision}"
        feed = _feed(record.inputs, arrays, wanted.batch)
        try:
            runtime = _entry_point(record.target)
            tell(f"checking {bundle.manifest.model.name} {label}\n")
            parity = _parity(bundle, record, wanted) if golden else None
        except UlsamError as error:
            prepared.left_out[label] = error
            continue
        prepared.subjects.append(_subject(bundle, record, runtime, feed, parity, wanted))
    return prepared


def _subject(
    bundle: Bundle,
    record: ArtifactRecord,
    runtime: str,
    feed: Mapping[str, Array],
    parity: Parity | None,
    wanted: Wanted,
) -> Subject:
    digests = "".join(file.sha256 for file in record.files)
    one = len(record.files) == 1
    engine = runtime_for(record.target)
    provider = provider_of(engine, wanted.provider)
    return Subject(
        model=bundle.manifest.model.name,
        target=record.target,
        precision=record.precision,
        runtime=runtime,
        files=bundle.files(record),
        inputs=record.inputs,
        outputs=record.outputs,
        feed=feed,
        sha256=digests if one else hashlib.sha256(digests.encode()).hexdigest(),
        size=sum(file.size for file in record.files),
        parity=parity,
        limits=bounds(engine, wanted.limits, provider),
        provider=provider,
    )


def _entry_point(target: str) -> str:
    """The name by which a fresh process finds the engine for ``target``."""
    engine = runtime_for(target)
    return next(name for name, found in plugins.loaded(plugins.RUNTIMES).items() if found is engine)


def _parity(bundle: Bundle, record: ArtifactRecord, wanted: Wanted) -> Parity:
    evidence = execute_elsewhere(
        bundle, record, wanted.limits, timed=False, threads=wanted.plan.threads, provider=wanted.provider
    )
    found = evidence.parity
    alive = found.retentions if found else ()
    return Parity(evidence.verdict, found.finite_error if found else None, min(alive, default=None), found)


def _arrays(bundle: Bundle, golden: Golden | None, wanted: Wanted) -> tuple[Mapping[str, Array], str]:
    """Arrays (N, ...) by input, and their source."""
    if wanted.inputs:
        try:
            return read_arrays(wanted.inputs, own=True), wanted.inputs.name
        except UnsoundArraysError as error:
            raise UsageError(
                f"{wanted.inputs} can't be read: {error}",
                expected="an .npz of numpy arrays (N, ...) by input name: "
                + ", ".join(spec.name for spec in bundle.manifest.model.inputs),
            ) from error
    if golden:
        return golden.inputs, "the bundle's probes"
    generator = np.random.default_rng(0)
    specs = bundle.manifest.model.inputs
    return {
        spec.name: generator.normal(size=[size or 1 for size in spec.shape]).astype(spec.dtype) for spec in specs
    }, "normal noise"


def _feed(specs: Sequence[TensorSpec], arrays: Mapping[str, Array], batch: int | None) -> dict[str, Array]:
    """One batch, repeated from the start if the arrays are shorter; raises :class:`UsageError` if they don't fit."""
    feed = {}
    for spec in specs:
        if spec.name in arrays and arrays[spec.name].ndim and len(arrays[spec.name]):
            size = batch or spec.shape[0] or 1
            feed[spec.name] = np.resize(arrays[spec.name], (size, *arrays[spec.name].shape[1:]))
        check_array(spec, feed)
    return feed


def _result(each: _Prepared, timed: Sequence[TimedSubject], wanted: Wanted, board: Board, session: str) -> Benched:
    left_out = {**each.left_out, **{one.subject.label: one.error for one in timed if one.error}}
    measured = tuple(one.measured() for one in timed if not one.error)
    if not measured:
        raise next(one.error for one in timed if one.error)
    comparisons, fastest = compared(measured)
    profile, card = wanted.plan.profile, each.bundle.manifest.model
    result = Result(
        model=card.name,
        sha256=card.sha256,
        tool=f"ulsam-deploy {__version__}",
        session=session,
        machine=replace(board.machine(), device=proof(board).device),
        settings=Settings(
            profile=profile.name,
            rounds=profile.rounds,
            warmup=profile.warmup,
            warmup_seconds=profile.warmup_seconds,
            min_seconds=profile.min_seconds,
            min_count=profile.min_count,
            threads=wanted.plan.threads,
            batch=wanted.batch,
            cpus=wanted.plan.cpus,
            inputs=each.fed,
        ),
        measured=measured,
        comparisons=comparisons,
        fastest=fastest,
        condition=worst(one.condition for one in measured),
        reasons=_reasons(measured),
        left_out={label: error.found for label, error in left_out.items()},
        probes=each.probes,
        commit=next((os.environ[name] for name in _COMMITS if name in os.environ), ""),
    )
    return Benched(result, left_out)


def _reasons(measured: Sequence[Measured]) -> tuple[Disturbance, ...]:
    """The reasons of all processes; of those that differ only in their figures, one."""
    found = [reason for one in measured for process in one.processes for reason in process.watch.reasons]
    return tuple({re.sub(r"\d+", "", reason.text): reason for reason in reversed(found)}.values())[::-1]


def compared(measured: Sequence[Measured]) -> tuple[tuple[Comparison, ...], str | None]:
    """Compare every artifact with the fastest one; also returns its label if it is significantly the fastest.

    An artifact that failed its check is compared, but is never the fastest.
    """
    sound = [one for one in measured if one.parity is None or one.parity.verdict is not Verdict.FAIL]
    if len(measured) < 2 or not sound:
        return (), None
    times = {one.label: log_times(one.times()) for one in measured}
    best = min(sound, key=lambda one: float(middle(times[one.label])))
    comparisons = []
    for other in measured:
        if other is not best:
            interval = paired(times[other.label] - times[best.label], (1 + CONFIDENCE) / 2)
            comparisons.append(
                Comparison(
                    label=other.label,
                    baseline=best.label,
                    ratio=interval.estimate,
                    low=interval.low,
                    high=interval.high,
                    confidence=CONFIDENCE,
                    rounds=len(other.processes),
                )
            )
    rivals = [c for c in comparisons if c.label in {one.label for one in sound}]
    sure = all(c.low is not None and c.low > 1.0 for c in rivals)
    return tuple(comparisons), best.label if sure and len(sound) > 1 else None


def _nothing(each: _Prepared) -> UlsamError:
    """The error for a bundle in which nothing can be timed, of the class of the worst reason."""
    errors = each.left_out.values()
    worst_code = combine(error.exit_code for error in errors)
    first = next(
        (error for error in errors if error.exit_code is worst_code), UnavailableError("it has no such artifact")
    )
    why = "; ".join(f"{label}: {error.found}" for label, error in each.left_out.items()) or first.found
    return type(first)(
        f"nothing of '{each.bundle.manifest.model.name}' can be timed here: {why}",
        todo=first.todo or f"to see what can run here: {command('doctor')}",
    )
