"""Benchmarks bundles: every artifact that can run here is checked, then timed in turns with all others.

Standard library, numpy and the engines only; device-safe.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import re
import secrets
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from ulsam_deploy._version import __version__
from ulsam_deploy.device import plugins
from ulsam_deploy.device.arrays import Array
from ulsam_deploy.device.bench.board import Board
from ulsam_deploy.device.bench.configure import configured
from ulsam_deploy.device.bench.intervals import log_times, middle, paired
from ulsam_deploy.device.bench.process import Subject
from ulsam_deploy.device.bench.result import Comparison, Disturbance, Measured, Parity, Result, Settings
from ulsam_deploy.device.bench.turns import Plan, Timed, take_turns
from ulsam_deploy.device.bench.watch import worst
from ulsam_deploy.device.bundle import ArtifactRecord, Bundle, Evidence
from ulsam_deploy.device.errors import UlsamError, UnavailableError, UsageError
from ulsam_deploy.device.findings import Verdict
from ulsam_deploy.device.invocation import command
from ulsam_deploy.device.parity import Golden
from ulsam_deploy.device.runtime import check_array
from ulsam_deploy.device.this_machine import proof
from ulsam_deploy.device.types import TensorSpec
from ulsam_deploy.device.verify import execute, runtime_for

__all__ = ["Wanted", "bench_bundles", "compared"]


#: Of the intervals between engines: both bounds hold together in 95 % of runs.
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Wanted:
    """What was asked: ``targets`` empty means all; ``inputs`` is an ``.npz`` with arrays by input name.

    ``configure``: raise the machine's clocks meanwhile.
    """

    plan: Plan
    targets: tuple[str, ...] = ()
    batch: int | None = None
    inputs: Path | None = None
    configure: bool = False


@dataclass
class _Prepared:
    """A bundle whose artifacts are ready to be timed."""

    bundle: Bundle
    fed: str
    subjects: list[Subject] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)
    todo: str = ""  # what the first of those would need


def bench_bundles(
    bundles: Sequence[Bundle], wanted: Wanted, board: Board, tell: Callable[[str], None] = lambda _: None
) -> list[Result]:
    """A result for each of ``bundles``, all artifacts of all of them timed in one session of turns.

    Raises :class:`RefusedError` for a bundle that was altered, :class:`UsageError` for inputs that don't fit, and
    :class:`UnavailableError` when nothing at all can run here.
    """
    prepared = [_prepare(bundle, wanted, tell) for bundle in bundles]
    subjects = [subject for each in prepared for subject in each.subjects]
    for each in prepared:
        if not each.subjects:
            raise UnavailableError(
                f"nothing of '{each.bundle.manifest.model.name}' can be timed here: {_listed(each.left_out)}",
                todo=each.todo or f"to see what can run here: {command('doctor')}",
            )
    with configured(board) if wanted.configure else contextlib.nullcontext(()) as changed:
        timed = take_turns(subjects, wanted.plan, board, tell)
    session = secrets.token_hex(8)
    remaining = iter(timed)
    return [
        _result(each, [next(remaining) for _ in each.subjects], wanted, board, session, tuple(changed))
        for each in prepared
    ]


def _prepare(bundle: Bundle, wanted: Wanted, tell: Callable[[str], None]) -> _Prepared:
    bundle.verify_integrity()
    golden = Golden.load(bundle.golden) if bundle.golden else None
    chosen = bundle.chosen(wanted.targets)
    arrays, fed = _arrays(bundle, golden, wanted)
    prepared = _Prepared(bundle, fed)
    for record in chosen:
        label = f"{record.target} {record.precision}"
        feed = _feed(record.inputs, arrays, wanted.batch)
        try:
            runtime = _entry_point(record.target)
            tell(f"checking {bundle.manifest.model.name} {label}\n")
            parity = _parity(bundle, record, golden, wanted.plan.threads) if golden else None
        except UlsamError as error:
            prepared.left_out[label] = error.found
            prepared.todo = prepared.todo or error.todo
            continue
        prepared.subjects.append(_subject(bundle, record, runtime, feed, parity))
    return prepared


def _subject(
    bundle: Bundle, record: ArtifactRecord, runtime: str, feed: Mapping[str, Array], parity: Parity | None
) -> Subject:
    digests = "".join(file.sha256 for file in record.files)
    one = len(record.files) == 1
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
    )


def _entry_point(target: str) -> str:
    """The name by which a fresh process finds the engine for ``target``."""
    engine = runtime_for(target)
    return next(name for name, found in plugins.loaded(plugins.RUNTIMES).items() if found is engine)


def _parity(bundle: Bundle, record: ArtifactRecord, golden: Golden, threads: int | None) -> Parity:
    files, precision = bundle.files(record), record.precision
    evidence: Evidence = execute(
        record.target, files, record.inputs, record.outputs, golden, precision=precision, timed=False, threads=threads
    )
    found = evidence.parity
    alive = found.livenesses if found else ()
    return Parity(evidence.verdict, found.finite_error if found else None, min(alive, default=None))


def _arrays(bundle: Bundle, golden: Golden | None, wanted: Wanted) -> tuple[Mapping[str, Array], str]:
    """Arrays (N, ...) by input, and where they came from."""
    if wanted.inputs:
        try:
            with np.load(io.BytesIO(wanted.inputs.read_bytes()), allow_pickle=False) as file:
                return {name: file[name] for name in file.files}, wanted.inputs.name
        except (OSError, ValueError, EOFError, AttributeError, zipfile.BadZipFile) as error:
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
    """One batch, repeated from the start where the arrays are shorter; raises :class:`UsageError`."""
    feed = {}
    for spec in specs:
        if spec.name in arrays and arrays[spec.name].ndim and len(arrays[spec.name]):
            size = batch or spec.shape[0] or 1
            feed[spec.name] = np.resize(arrays[spec.name], (size, *arrays[spec.name].shape[1:]))
        check_array(spec, feed)
    return feed


def _result(
    each: _Prepared, timed: Sequence[Timed], wanted: Wanted, board: Board, session: str, changed: tuple[str, ...]
) -> Result:
    failed = {one.subject.label: one.error.found for one in timed if one.error}
    measured = tuple(one.measured() for one in timed if not one.error)
    if not measured:
        raise next(one.error for one in timed if one.error)
    comparisons, fastest = compared(measured)
    profile, card = wanted.plan.profile, each.bundle.manifest.model
    return Result(
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
            configured=changed,
        ),
        measured=measured,
        comparisons=comparisons,
        fastest=fastest,
        condition=worst(one.condition for one in measured),
        reasons=_reasons(measured),
        left_out={**each.left_out, **failed},
    )


def _reasons(measured: Sequence[Measured]) -> tuple[Disturbance, ...]:
    """The reasons of all processes, one of those that differ in their figures only."""
    found = [reason for one in measured for process in one.processes for reason in process.watch.reasons]
    return tuple({re.sub(r"\d+", "", reason.text): reason for reason in reversed(found)}.values())[::-1]


def compared(measured: Sequence[Measured]) -> tuple[tuple[Comparison, ...], str | None]:
    """Every artifact against the one that takes least, and that one's label where it is surely the fastest.

    An artifact that computes something else is compared, and is never the fastest.
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


def _listed(left_out: Mapping[str, str]) -> str:
    return "; ".join(f"{label}: {why}" for label, why in left_out.items()) or "it has no such artifact"
