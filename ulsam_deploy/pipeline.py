"""The one road: checkpoint -> network -> Program -> lowered Program -> artifact -> evidence -> bundle.

:func:`export` reads from top to bottom. Every stage is computed on first use and cached by content, so a run in which
nothing changed never imports torch, and a backend that is missing or fails never stops another one.
"""

from __future__ import annotations

import dataclasses
import functools
import platform
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ulsam_deploy import own_probes, plugins, source
from ulsam_deploy._version import __version__
from ulsam_deploy.bundle import Bundle, BundleWriter, Evidence, Manifest, ModelCard, check_writable, strict
from ulsam_deploy.cache import Cache, key, source_digest
from ulsam_deploy.contracts import ArrayMap, Artifact, Exporter, ExportRequest, TensorSpec, Verdict
from ulsam_deploy.devices import check_dla, device
from ulsam_deploy.errors import Exit, ExportError, UlsamError, UnavailableError, UsageError, combine
from ulsam_deploy.evidence import execute, runtime_for, verdict_code, worst_batch
from ulsam_deploy.options import PROBES, ExportOptions
from ulsam_deploy.parity import Golden
from ulsam_deploy.progress import Progress
from ulsam_deploy.third_party import version

if TYPE_CHECKING:
    from ulsam_deploy.program import Program, Proof

GOLDEN, CARD, MADE = "golden.npz", "card.json", "made.json"


@dataclass(frozen=True)
class Made:
    """One artifact with its evidence, as it is cached."""

    artifact: Artifact
    evidence: Evidence


@dataclass(frozen=True)
class Outcome:
    """What became of one target: ``made``, or the ``error`` that stopped it."""

    target: str
    made: Made | None = None
    error: UlsamError | None = None
    required: bool = True

    def exit_code(self, options: ExportOptions) -> Exit:
        """What this target contributes to the exit code."""
        if self.made is None:
            return self.error.exit_code if self.error and self.required else Exit.OK
        missed = self.made.evidence.tier < options.require
        return combine([verdict_code(self.made.evidence), Exit.UNAVAILABLE if missed else Exit.OK])


@dataclass(frozen=True)
class Exported:
    """The result of an export. ``bundle`` is ``None`` when no target could be made."""

    bundle: Bundle | None
    outcomes: tuple[Outcome, ...]
    notes: tuple[str, ...]
    exit_code: Exit


def export(options: ExportOptions, progress: Progress | None = None) -> Exported:
    """Take ``options.model`` down the whole road and leave a bundle at ``options.bundle``.

    Raises :class:`~ulsam_deploy.errors.UlsamError` when the network itself cannot be read, captured or rewritten, or
    the bundle cannot be written; what stops a single target is in its :class:`Outcome`.
    """
    progress = progress or Progress()
    check_writable(options.bundle)
    if options.device:
        device(options.device)
    if options.dla:
        check_dla(options.device, options.precision, options.batch)
    targets = _targets(options)
    with Road(options, progress) as road, BundleWriter(options.bundle) as writer:
        outcomes = [_one_target(road, target, writer.folder) for target in targets]
        code = combine(outcome.exit_code(options) for outcome in outcomes)
        made = [outcome.made for outcome in outcomes if outcome.made]
        if not made:
            return Exported(None, tuple(outcomes), road.notes(), code)
        shutil.copyfile(road.truth / GOLDEN, writer.folder / GOLDEN)
        manifest = Manifest(
            model=road.card,
            artifacts=tuple(writer.artifact(m.artifact, m.artifact.target, m.evidence) for m in made),
            golden=writer.record(GOLDEN),
            run=_run_section(outcomes),
        )
        with progress.stage("bundle") as said:
            bundle = writer.commit(manifest)
            said.append(str(options.bundle))
    return Exported(bundle, tuple(outcomes), road.notes(), code)


def _targets(options: ExportOptions) -> list[tuple[str, bool]]:
    """The targets to make, and whether each was asked for by name."""
    known = plugins.registered(plugins.EXPORTERS)
    if "all" in options.targets:
        return [(name, False) for name in known]
    for name in options.targets:
        if name not in known:
            raise UsageError(f"no target is called '{name}'", expected=", ".join([*known, "all"]))
    return [(name, True) for name in dict.fromkeys(options.targets)]


def _one_target(road: Road, target: tuple[str, bool], folder: Path) -> Outcome:
    """Export and verify one target; its failure is an outcome, the network's own failure is raised."""
    name, required = target
    try:
        exporter: Exporter = plugins.load(plugins.EXPORTERS, name)
        _check_possible(exporter, road.options)
    except UlsamError as error:
        road.progress.say(f"  {name:<22}skipped: {error.found}")
        return Outcome(name, error=error, required=required or not isinstance(error, UnavailableError))
    road.truth  # noqa: B018 - the network's own errors end the run here, before any target is blamed for them
    with road.progress.stage(name) as said:
        try:
            made = road.made(exporter, folder / name)
        except UlsamError as error:
            shutil.rmtree(folder / name, ignore_errors=True)
            said.append(f"failed: {error.found.splitlines()[0]}")
            return Outcome(name, error=error)
        said.append(f"{made.evidence.tier.label}, {made.evidence.verdict.value}")
    return Outcome(name, made=made)


def _check_possible(exporter: Exporter, options: ExportOptions) -> None:
    available = exporter.available()
    if not available.usable:
        raise UnavailableError(f"{exporter.target}: {available.detail}", todo=available.todo)
    if options.precision not in exporter.precisions:
        raise UnavailableError(
            f"{exporter.target} has no precision '{options.precision}'", expected=", ".join(exporter.precisions)
        )
    if options.batch is None and not exporter.dynamic_batch:
        raise UnavailableError(
            f"{exporter.target} artifacts are static: they cannot have a dynamic batch",
            expected="a fixed batch size",
            todo=f"export this target with --batch 1 (or another number): --target {exporter.target} --batch 1",
        )


def _run_section(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """What is not the same on every machine, or was left out: the only part of a bundle that may differ."""
    left_out = {o.target: o.error.found.splitlines()[0] for o in outcomes if o.error}
    return {
        "ulsam-deploy": __version__,
        "python": platform.python_version(),
        "machine": platform.machine(),
        "system": platform.system(),
        "left_out": left_out,
    }


class Road:
    """The stages of one export, each done once and only when something needs it."""

    def __init__(self, options: ExportOptions, progress: Progress) -> None:
        self.options, self.progress = options, progress
        # What a user's own factory does cannot be hashed, so its exports are never reused.
        self._cache = Cache() if options.cache and not options.factory else None
        self._scratch = tempfile.TemporaryDirectory(prefix="ulsam-deploy-")

    def __enter__(self) -> Road:
        return self

    def __exit__(self, *exc: object) -> None:
        self._scratch.cleanup()

    @functools.cached_property
    def digest(self) -> str:
        """SHA-256 of the checkpoint file."""
        return source.file_digest(self.options)

    @functools.cached_property
    def key(self) -> str:
        """Changes with anything that the program or the golden set depends on."""
        o = self.options
        probes = own_probes.digest(o.probes) if o.probes else ""
        asked = [o.arch, o.factory, o.variant, o.inputs, o.batch, o.trust_pickle, sorted(o.allow_globals), probes]
        return key("truth", self.digest, o.model.stem, asked, PROBES, source_digest(), version("torch"))

    @functools.cached_property
    def source(self) -> source.Source:
        """The network with its weights."""
        with self.progress.stage("load") as said:
            loaded = source.load(self.options)
            said.append(f"{loaded.network}, {loaded.parameters / 1e6:.2f} M parameters")
        for note in loaded.notes:
            self.progress.say(f"  note: {note}")
        return loaded

    @functools.cached_property
    def captured(self) -> Program:
        """The network as ``torch.export`` sees it."""
        from ulsam_deploy.program import capture

        model, shapes = self.source.model, self.source.input_shapes
        with self.progress.stage("capture") as said:
            program = capture(model, shapes, self.options.batch)
            said.append(", ".join(f"{spec.name} {_words(spec)}" for spec in program.inputs))
        return program

    @functools.cached_property
    def proof(self) -> Proof:
        """What every rewrite is proven against."""
        from ulsam_deploy.program import Proof

        return Proof(self.captured)

    @functools.cached_property
    def raised(self) -> Program:
        """The same with every ULSAM block as one node, proven equal in float64."""
        from ulsam_deploy.program import raise_attention

        captured = self.captured
        with self.progress.stage("raise and prove") as said:
            program = raise_attention(captured)
            _check_expected(program, self.source, self.options)
            difference = self.proof.check(program, "raising the attention")
            said.append(f"{len(program.blocks)} attention blocks, equal in float64 to {difference:.1g}")
        for refusal in program.refusals:
            self.progress.say(f"  note: {refusal.path} looks like ULSAM and is left as it is: {refusal.reason}")
        return program

    @functools.cached_property
    def truth(self) -> Path:
        """A folder with the golden set and the model card."""
        cached = self._cache.get(self.key) if self._cache else None
        if cached:
            return cached
        from ulsam_deploy.program import make_golden

        captured, raised = self.captured, self.raised
        with self.progress.stage("reference") as said:
            shapes = {spec.name: tuple(size or 1 for size in spec.shape[1:]) for spec in captured.inputs}
            probes, names = own_probes.with_built_in(self.options.probes, shapes, captured.batch or 1)
            golden = make_golden(captured, raised, probes, names)
            said.append(f"{len(names)} probes in float64, {len(raised.blocks)} ablated twins, noise floors")
        folder = Path(self._scratch.name, "truth")
        folder.mkdir()
        golden.save(folder / GOLDEN)
        (folder / CARD).write_text(strict.dumps(strict.encode(self._card(), CARD)))
        if self._cache:
            self._cache.put(self.key, folder)
        return folder

    def _card(self) -> ModelCard:
        return ModelCard(
            name=self.options.model.stem,
            sha256=self.digest,
            network=self.source.network,
            config=self.source.config,
            inputs=self.captured.inputs,
            outputs=self.captured.outputs,
            blocks=self.raised.blocks,
            refusals=self.raised.refusals,
            parameters=self.source.parameters,
        )

    @functools.cached_property
    def card(self) -> ModelCard:
        """What the manifest says about the model."""
        return strict.decode(ModelCard, strict.loads((self.truth / CARD).read_bytes(), CARD), CARD)

    @functools.cached_property
    def golden(self) -> Golden:
        """What every artifact is held against."""
        return Golden.load(self.truth / GOLDEN)

    def made(self, exporter: Exporter, folder: Path) -> Made:
        """The artifact of one target in ``folder``, with its evidence; from the cache where nothing changed."""
        entry = key(self.key, exporter.target, self._request(), exporter.available().detail, _engine(exporter))
        cached = self._cache.get(entry) if self._cache else None
        if cached:
            shutil.copytree(cached / exporter.target, folder)
            return strict.decode(Made, strict.loads((cached / MADE).read_bytes(), MADE), MADE)
        folder.mkdir()
        made = self._make(exporter, folder)
        if self._cache:
            copy = Path(self._scratch.name, exporter.target)
            shutil.copytree(folder, copy / exporter.target)
            (copy / MADE).write_text(strict.dumps(strict.encode(made, MADE)))
            self._cache.put(entry, copy)
        return made

    def _request(self) -> ExportRequest:
        return ExportRequest(self.options.precision, self.options.device, self.options.dla)

    def _make(self, exporter: Exporter, folder: Path) -> Made:
        from ulsam_deploy.program import lower

        request = self._request()
        lowered = lower(self.raised, exporter.lowering(request))
        self.proof.check(lowered, f"lowering for {exporter.target}")
        artifact = exporter.export(lowered, request, folder)
        files = [folder / name for name in artifact.files]
        try:
            evidence = execute(
                exporter.target, files, artifact.inputs, artifact.outputs, self.golden, precision=artifact.precision
            )
            if evidence.verdict is Verdict.FAIL:
                with runtime_for(exporter.target)(files, artifact.inputs, artifact.outputs) as runtime:
                    evidence = self.located(evidence, self.golden, runtime.values, artifact.precision)
        except UnavailableError as error:
            evidence = Evidence(artifact.tier, reasons=(f"Not run here: {error.found}.",))
            if study := exporter.study(artifact, folder, self.golden):
                artifact = dataclasses.replace(artifact, facts={**artifact.facts, "study": study.facts})
                reasons = evidence.reasons + study.reasons
                evidence = dataclasses.replace(evidence, verdict=study.verdict, reasons=reasons)
        return Made(artifact, evidence)

    def located(
        self, evidence: Evidence, golden: Golden, values: Callable[[ArrayMap], ArrayMap], precision: str = "fp32"
    ) -> Evidence:
        """``evidence`` of a failure with one reason more: the first module of the network that differs.

        ``values`` gives every tensor inside the artifact for one batch of the inputs of ``golden``.
        """
        from ulsam_deploy.diverge import first_divergence
        from ulsam_deploy.program import module_points

        feed = {name: golden.inputs[name][worst_batch(evidence, golden, self.batch)] for name in golden.inputs}
        captured = self.captured
        with self.progress.stage("where") as said:
            try:
                divergence = first_divergence(module_points(captured, feed, precision), values(feed))
            except UlsamError as error:
                said.append(f"not found: {error.found.splitlines()[0]}")
                return evidence
            said.append(divergence.module or "nowhere")
        return dataclasses.replace(evidence, reasons=(*evidence.reasons, divergence.sentence()))

    @property
    def batch(self) -> int:
        """How many probes are run at once; one where the batch is dynamic."""
        return self.options.batch or 1

    def notes(self) -> tuple[str, ...]:
        """What the user should know besides the outcomes; nothing is loaded only to find out."""
        if "truth" not in self.__dict__:
            return ()
        return tuple(f"{refusal.path} is left as it is: {refusal.reason}" for refusal in self.card.refusals)


def _words(spec: TensorSpec) -> str:
    return "x".join("N" if size is None else str(size) for size in spec.shape)


def _engine(exporter: Exporter) -> str:
    """The engine and machine that evidence was gathered on: it is not carried to another one."""
    try:
        engine = runtime_for(exporter.target).available().detail
    except UnavailableError:
        engine = "none"
    return f"{engine} on {platform.machine()} {platform.processor()} {platform.system()}"


def _check_expected(program: Program, loaded: source.Source, options: ExportOptions) -> None:
    """Zero matches in a network that should have ULSAM is an error, not a silent pass."""
    found, expected = len(program.blocks) + len(program.refusals), loaded.expected_blocks
    if expected is not None and (found != expected or (program.refusals and not options.variant)):
        reasons = "; ".join(f"{r.path}: {r.reason}" for r in program.refusals)
        raise ExportError(
            f"{len(program.blocks)} of {expected} attention blocks were raised" + (f" ({reasons})" if reasons else ""),
            expected=f"all {expected} blocks of {loaded.network} in the form that this tool proves",
            todo="if this is a known variant of the module, say so with --ulsam-variant",
        )
