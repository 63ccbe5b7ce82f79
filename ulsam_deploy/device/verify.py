"""Runs an artifact in the engine on this machine and checks it. numpy and the engine only; device-safe."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from ulsam_deploy.device import plugins
from ulsam_deploy.device.agreement import measure_agreement, with_agreement
from ulsam_deploy.device.arrays import Array
from ulsam_deploy.device.bench.identity import DeviceProof
from ulsam_deploy.device.bench.measure import measure
from ulsam_deploy.device.bundle import ArtifactRecord, Bundle, Evidence, read_bundle
from ulsam_deploy.device.bundle.judged import CODES
from ulsam_deploy.device.elsewhere import job
from ulsam_deploy.device.elsewhere.jail import noted
from ulsam_deploy.device.elsewhere.limits import Limits
from ulsam_deploy.device.errors import Exit, UlsamError, UnavailableError, UsageError
from ulsam_deploy.device.findings import AgreementBudget, Latency, PlainRun
from ulsam_deploy.device.invocation import command
from ulsam_deploy.device.parity import Golden, Reading, check, tolerance_of
from ulsam_deploy.device.proven import as_recorded
from ulsam_deploy.device.runtime import Runtime
from ulsam_deploy.device.this_machine import proof
from ulsam_deploy.device.types import Availability, EvidenceLevel, TensorSpec

#: The sizes that a dynamic batch is run in: every place among this many images is looked at, and among the largest.
_SIZES, LARGEST = (1, 2, 5, 15), 33
#: What the order of sums may change of an output, relative to its size.
_ORDER = 1e-5
#: How many points of a latency distribution are stored, from the fastest run to the slowest.
QUANTILES = 41


def runtime_for(target: str) -> type[Runtime]:
    """The engine that runs artifacts of ``target``; raises :class:`UnavailableError` when it cannot run here."""
    reasons: list[Availability] = []
    engines: dict[str, type[Runtime]] = plugins.loaded(plugins.RUNTIMES)
    for engine in engines.values():
        if engine.target == target:
            here = engine.available()
            if here.usable:
                return engine
            reasons.append(here)
    raise UnavailableError(
        f"no engine here can run '{target}' artifacts" + (f": {reasons[0].detail}" if reasons else ""),
        todo=reasons[0].todo if reasons and reasons[0].todo else f"to see what can run here: {command('doctor')}",
    )


def produce(runtime: Runtime, inputs: Mapping[str, Array]) -> dict[str, Array]:
    """The outputs of ``runtime`` on ``inputs``, both ``(P, ...)`` by name; a dynamic batch is run in several sizes.

    Of a dynamic batch, one larger than all others is run as well, whose last rows no other has: an output that it
    changes is the one that counts.
    """
    count, batch = len(next(iter(inputs.values()))), runtime.inputs[0].shape[0]

    def run(rows: slice | Array) -> dict[str, Array]:
        return runtime.run({spec.name: inputs[spec.name][rows] for spec in runtime.inputs})

    parts = [run(chosen) for chosen in _slices(count, batch)]
    found = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    if not batch:
        again = np.arange(-_SIZES[-1], LARGEST - _SIZES[-1]) % count  # the first probes come where no batch reached
        try:
            late = run(again)
        except UlsamError:  # its maker's capture may have bounded the batch: torch.export does, below 16 here
            return found
        if any(late[name].shape != (LARGEST, *array.shape[1:]) for name, array in found.items()):
            return found  # an output without the batch's size is refused anyway
        for place, probe in list(enumerate(again))[_SIZES[-1] :]:
            if any(_differs(late[name][place], found[name][probe]) for name in found):
                for name in found:
                    found[name][probe] = late[name][place]
    return found


def _differs(one: Array, other: Array) -> bool:
    """Whether ``one`` of two outputs for the same input is not finite, or they differ by more than sums' order does."""
    a, b = (np.asarray(array, np.float64) for array in (one, other))
    return bool(np.isfinite(b).all()) and not float(np.linalg.norm(a - b)) <= _ORDER * float(np.linalg.norm(b))


def _slices(count: int, batch: int | None) -> Iterator[slice]:
    sizes = [batch] if batch else _SIZES
    start = turn = 0
    while start < count:
        size = sizes[turn % len(sizes)]
        yield slice(start, start + size)
        start, turn = start + size, turn + 1


def label(target: str, precision: str) -> str:
    """The name of one artifact among others, and of its folder where there are several precisions."""
    return f"{target}-{precision}"


def execute(
    target: str,
    files: Sequence[Path],
    inputs: Sequence[TensorSpec],
    outputs: Sequence[TensorSpec],
    golden: Golden,
    *,
    precision: str = "fp32",
    timed: bool = True,
    threads: int | None = 1,
    provider: str = "",
    artifact_ablations: Mapping[str, Array] | None = None,
    inside: Sequence[Reading | None] | None = None,
    budget: AgreementBudget | None = None,
) -> Evidence:
    """Run the artifact in ``files`` on the probes of its ``precision`` and check it; ``timed``: also time single runs.

    ``threads``: of the engine; ``None``: as many as it chooses. One is never slower than this program's share of a busy
    machine, and gives the same values on every machine. ``provider``: what the engine runs on, if it can choose.
    ``artifact_ablations``: the outputs of its ablations, one for each block, and ``inside``: the retention of each
    block as read inside it; both by default from the golden set. ``budget``: how far it may disagree with PyTorch.
    """
    engine = runtime_for(target)
    judged = golden.at(precision)
    ablations = (
        golden.artifact_ablations.get(label(target, precision)) if artifact_ablations is None else artifact_ablations
    )
    seen = golden.inside.get(label(target, precision), ()) if inside is None else inside
    with engine(files, inputs, outputs, threads=threads, provider=provider) as runtime:
        produced = produce(runtime, judged.inputs)
        report = check(
            judged,
            produced,
            tolerance=tolerance_of(precision),
            artifact_ablations=ablations,
            inside=seen,
            outputs_decide=precision == "fp32",
        )
        evidence = Evidence(
            level=EvidenceLevel.EXECUTED,
            verdict=report.verdict,
            reasons=report.reasons,
            parity=report,
            latency=latency(runtime, golden) if timed else None,
            engine=noted(runtime.facts()),
        )
        return with_agreement(evidence, measure_agreement(judged, produced, budget), precision)


def latency(runtime: Runtime, golden: Golden) -> Latency:
    """Time of one run on the first probes, inputs and outputs as host arrays, in milliseconds."""
    batch = runtime.inputs[0].shape[0] or 1
    feed = {spec.name: golden.inputs[spec.name][:batch] for spec in runtime.inputs}
    samples = measure(lambda: runtime.run(feed), warmup=2, min_seconds=0.2, min_count=20)
    quantiles = np.quantile(samples.times, np.linspace(0, 1, QUANTILES)) / 1e6
    rounded = tuple(float(f"{value:.4g}") for value in quantiles)
    return Latency(**asdict(samples.summary()), batch=batch, quantiles=rounded)


def worst_batch(evidence: Evidence, golden: Golden, size: int | None) -> slice:
    """The batch of probes in which :func:`produce` ran the worst one; ``size``: the artifact's batch size.

    The whole batch in the same order, because some faults only show next to certain images. The first batch if the
    worst probe is unknown.
    """
    outputs = evidence.parity.outputs if evidence.parity else ()
    errors = {found.probe: math.inf if found.error is None else found.error for found in outputs if found.probe}
    worst = golden.probes.index(max(errors, key=errors.__getitem__)) if errors else 0
    return next(chosen for chosen in _slices(len(golden.probes), size) if worst < chosen.stop)


@dataclass(frozen=True)
class Checked:
    """The result of verifying one artifact of a bundle here; ``error`` says why it could not be run."""

    record: ArtifactRecord
    evidence: Evidence | None
    error: UlsamError | None = None

    @property
    def exit_code(self) -> Exit:
        """What this artifact contributes to the exit code."""
        if self.error is not None:
            return self.error.exit_code
        return verdict_code(self.evidence) if self.evidence else Exit.OK


def verdict_code(evidence: Evidence) -> Exit:
    """The exit code for the verdict of ``evidence``."""
    return CODES[evidence.verdict]


def verify_bundle(
    bundle: Bundle, targets: Sequence[str] = (), limits: Limits | None = None, provider: str = ""
) -> list[Checked]:
    """Check the integrity of ``bundle``, then run every artifact (of ``targets``, if given) that can run here.

    If this machine proves to be a known board, the evidence is measured-on-device and names the board.
    Each artifact is opened in a process of its own within ``limits``: hashes show that a bundle is complete and
    unaltered, not that its author can be trusted. Artifacts whose engine has the ``provider`` run on it. Raises
    :class:`~ulsam_deploy.device.errors.RefusedError` before any engine opens anything if a byte is not as recorded,
    :class:`~ulsam_deploy.device.errors.UsageError` if no engine has the provider.
    """
    bundle.verify_integrity()
    check_provider(bundle, targets, provider)
    golden = Golden.load(bundle.golden) if bundle.golden else None
    here = proof()
    return [_verify(bundle, record, golden, limits or Limits(), here, provider) for record in bundle.chosen(targets)]


def _verify(
    bundle: Bundle, record: ArtifactRecord, golden: Golden | None, limits: Limits, here: DeviceProof, provider: str
) -> Checked:
    if golden is None:
        return Checked(record, None, UnavailableError("the bundle has no golden set", todo="export it again"))
    try:
        return Checked(record, measured(execute_elsewhere(bundle, record, limits, provider=provider), here))
    except UlsamError as error:
        return Checked(record, None, error)


def measured(evidence: Evidence, here: DeviceProof) -> Evidence:
    """``evidence`` of a run on this machine, raised to measured-on-device if it proves to be a known device."""
    if here.device is None or evidence.level is not EvidenceLevel.EXECUTED or evidence.engine is None:
        return evidence
    engine = replace(evidence.engine, device=here.device)
    return replace(evidence, level=EvidenceLevel.MEASURED_ON_DEVICE, engine=engine)


@dataclass(frozen=True)
class Execution:
    """A request to :func:`execute` one artifact of the bundle in the folder ``bundle``."""

    bundle: Path
    target: str
    precision: str
    timed: bool
    threads: int | None
    provider: str


def execute_elsewhere(
    bundle: Bundle,
    record: ArtifactRecord,
    limits: Limits,
    *,
    timed: bool = True,
    threads: int | None = 1,
    provider: str = "",
) -> Evidence:
    """:func:`execute` one artifact of ``bundle``, which has a golden set, in a process of its own within ``limits``.

    It runs on ``provider`` if its engine has that. Raises the :class:`UlsamError` of the engine, and
    :class:`~ulsam_deploy.device.errors.ExportError` if the process crashed or exceeded its limits.
    """
    engine = runtime_for(record.target)
    chosen = provider_of(engine, provider)
    asked = Execution(bundle.root, record.target, record.precision, timed, threads, chosen)
    return job.do(_executed, asked, bounds(engine, limits, chosen), f"{engine.name} on {record.files[0].path}")


def bounds(engine: type[Runtime], limits: Limits, provider: str = "") -> Limits:
    """``limits`` for ``engine`` on ``provider``.

    Neither address space nor what it may write is limited for an engine that maps all memory of a GPU, unless the jail
    is required.
    """
    if not engine.native and provider in ("", "cpu"):
        return limits
    return replace(limits, memory=None, jail="off" if limits.jail == "auto" else limits.jail)


def provider_of(engine: type[Runtime], asked: str) -> str:
    """The provider that ``engine`` is opened with where ``asked`` is requested for a whole bundle."""
    return asked if asked in engine.providers else ""


def check_provider(bundle: Bundle, targets: Sequence[str], asked: str) -> None:
    """Raise :class:`UsageError` if ``asked`` is a provider of no engine for the chosen artifacts of ``bundle``."""
    if asked and not any(record.target in targets_on(asked) for record in bundle.chosen(targets)):
        engines: Iterable[type[Runtime]] = plugins.loaded(plugins.RUNTIMES).values()
        known = [f"{name} for {engine.target} artifacts" for engine in engines for name in engine.providers]
        raise UsageError(f"no artifact here runs on provider '{asked}'", expected=", ".join(known))


def targets_on(provider: str) -> set[str]:
    """The targets whose engine has ``provider``, available or not."""
    engines: Iterable[type[Runtime]] = plugins.loaded(plugins.RUNTIMES).values()
    return {engine.target for engine in engines if provider in engine.providers}


def _executed(asked: Execution) -> Evidence:
    """The part of :func:`execute_elsewhere` that runs in the other process."""
    bundle = read_bundle(asked.bundle)
    record = bundle.artifact(asked.target, asked.precision)
    assert bundle.golden is not None
    return execute_again(
        bundle, record, Golden.load(bundle.golden), timed=asked.timed, threads=asked.threads, provider=asked.provider
    )


def execute_again(
    bundle: Bundle, record: ArtifactRecord, golden: Golden, *, timed: bool, threads: int | None, provider: str = ""
) -> Evidence:
    """:func:`execute` one artifact of ``bundle`` in this process, and judge it with what is recorded about it.

    What was proven when it was made holds for the same bytes, and the budget is that of its export.
    """
    recorded = record.evidence.agreement
    found = execute(
        record.target, bundle.files(record), record.inputs, record.outputs, golden,
        precision=record.precision, timed=timed, threads=threads, provider=provider,
        budget=recorded.budget if recorded else None,
    )  # fmt: skip
    found = as_recorded(found, record.evidence, record.precision)
    ports = record.inputs, record.outputs
    return with_plain_run(found, record.target, bundle.files(record), *ports, golden, record.precision)


def with_plain_run(
    evidence: Evidence,
    target: str,
    files: Sequence[Path],
    inputs: Sequence[TensorSpec],
    outputs: Sequence[TensorSpec],
    golden: Golden,
    precision: str,
) -> Evidence:
    """Add to ``evidence`` what the artifact in ``files`` computes where its engine is opened with its own defaults.

    This program asks every engine for the artifact's own precision; whoever opens the file without options may get
    another one. Nothing is added where they are the same. The verdict stays: it is that of the artifact as it is meant.
    """
    engine = runtime_for(target)
    default = engine.default_precision()
    if not default:
        return evidence
    judged = golden.at(precision)
    with engine(files, inputs, outputs, precise=False) as runtime:
        produced = produce(runtime, judged.inputs)
    report = check(judged, produced, tolerance=tolerance_of(precision))
    agreed = measure_agreement(judged, produced, evidence.agreement.budget if evidence.agreement else None)
    found = Evidence(EvidenceLevel.EXECUTED, report.verdict, report.reasons, report)
    verdict = with_agreement(found, agreed, precision).verdict
    return replace(evidence, plain=PlainRun(default, verdict, report.finite_error, agreed))
