"""The stages of one export: what is done on the way from checkpoint to artifact, each once and cached by content."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import platform
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ulsam_deploy.device import codec
from ulsam_deploy.device.arrays import ArrayMap
from ulsam_deploy.device.bundle import Evidence, ModelCard
from ulsam_deploy.device.bundle.manifest import config_value
from ulsam_deploy.device.cache import Cache, key, source_digest
from ulsam_deploy.device.errors import ExportError, UlsamError, UnavailableError
from ulsam_deploy.device.files import scratch
from ulsam_deploy.device.findings import Reason, ReasonKind
from ulsam_deploy.device.maps import MAPS
from ulsam_deploy.device.parity import Added, Golden
from ulsam_deploy.device.precisions import CALIBRATED
from ulsam_deploy.device.progress import Progress
from ulsam_deploy.device.third_party import version
from ulsam_deploy.device.types import Artifact, Calibration, TensorSpec
from ulsam_deploy.device.verify import runtime_for
from ulsam_deploy.export import build
from ulsam_deploy.export.build import Made
from ulsam_deploy.export.options import ExportOptions, Recipe
from ulsam_deploy.graph.interfaces import Exporter, ExportRequest
from ulsam_deploy.graph.resolution import Resolution, in_short
from ulsam_deploy.inputs import calibration
from ulsam_deploy.inputs import probes as own_probes
from ulsam_deploy.inputs.probes import PROBES
from ulsam_deploy.load import source
from ulsam_deploy.load.checkpoint import InMemory

if TYPE_CHECKING:
    from ulsam_deploy.graph import Program, Proof, Signature

GOLDEN, CARD, MADE, TWINS, FILES = "golden.npz", "card.json", "made.json", "twins.npz", "files"
RESOLUTION, REMEMBERED, NOTES = "resolution.json", "remembered.json", "notes.json"


@dataclass(frozen=True)
class _Kept:
    """What is cached of one artifact in words; what its twins gave lies beside it."""

    artifact: Artifact
    evidence: Evidence
    inside: tuple[tuple[float, ...], ...] = ()  # of each block, empty where nothing could be read


@dataclass(frozen=True)
class _Resolutions:
    """What is cached of the forecasts."""

    blocks: tuple[Resolution, ...]


@dataclass(frozen=True)
class _Notes:
    """What is cached of what was said while the network and the user's files were read."""

    sentences: tuple[str, ...]


class Road:
    """The stages of one export, each done once and only when something needs it."""

    def __init__(self, options: ExportOptions, progress: Progress, given: InMemory | None = None) -> None:
        self.options, self.progress, self.given = options, progress, given
        # What a user's own code does cannot be hashed, so its exports are never reused.
        self._cache = Cache() if options.cache and not options.factory and given is None else None
        self._stack = contextlib.ExitStack()
        self._scratch = self._stack.enter_context(scratch())
        self._notes: list[str] = []
        self._lowered: dict[tuple[str, object], Program] = {}
        self._handed_over = False

    def __enter__(self) -> Road:
        return self

    def __exit__(self, *exc: object) -> None:
        self._stack.close()

    def walked(self, *stages: str) -> dict[str, Any]:
        """What ``stages`` gave, by name, for :meth:`resume` in another process."""
        return {name: getattr(self, name) for name in stages}

    def resume(self, walked: Mapping[str, Any]) -> None:
        """Go on from what another process has :meth:`walked`; what is made here is timed and cached there."""
        self.__dict__.update(walked)
        self._handed_over = True

    def private(self, name: str) -> Path:
        """An empty folder called ``name`` that goes with this road."""
        folder = self._scratch / name
        folder.mkdir()
        return folder

    @functools.cached_property
    def digest(self) -> str:
        """SHA-256 of the checkpoint file; of a network in memory, of its weights."""
        return source.file_digest(self.options) if self.given is None else self.given.sha256

    @functools.cached_property
    def key(self) -> str:
        """Changes with anything that the program or the golden set depends on."""
        o = self.options
        probes = own_probes.digest(o.probes) if o.probes else ""
        low = sorted(set(o.judged) - {"fp32"})
        ranges = own_probes.digest(o.calibration) if o.calibration and set(low) & set(CALIBRATED) else ""
        asked: list[object] = [o.arch, o.factory, o.variant, o.inputs, o.batch, o.trust_pickle]
        asked += [sorted(o.allow_globals), probes, low, ranges]
        asked.append(dataclasses.asdict(o.preprocessing) if o.preprocessing else None)
        return key("truth", self.digest, o.model.stem, asked, PROBES, source_digest(), version("torch"))

    @functools.cached_property
    def source(self) -> source.Source:
        """The network with its weights."""
        with self.progress.stage("load") as said:
            loaded = source.load(self.options, self.given)
            said.append(f"{loaded.network}, {loaded.parameters / 1e6:.2f} M parameters")
        for note in loaded.notes:
            self._note(note)
        return loaded

    @functools.cached_property
    def signature(self) -> Signature:
        """What goes into the network and what comes out; known before it is captured."""
        from ulsam_deploy.graph import signature

        return signature(self.source.model, self.source.input_shapes, self.options.batch)

    @functools.cached_property
    def captured(self) -> Program:
        """The network as ``torch.export`` sees it."""
        from ulsam_deploy.graph import capture

        model, shapes = self.source.model, self.source.input_shapes
        with self.progress.stage("capture") as said:
            program = capture(model, shapes, self.options.batch)
            said.append(", ".join(f"{spec.name} {_words(spec)}" for spec in program.inputs))
        return program

    @functools.cached_property
    def proof(self) -> Proof:
        """What every rewrite is proven against."""
        from ulsam_deploy.graph import Proof

        proof = Proof(self.captured)
        if self.source.reference:
            proof.hold(self.source.reference, "reading the model")
        return proof

    @functools.cached_property
    def raised(self) -> Program:
        """The same with every ULSAM block as one node, proven equal in float64."""
        from ulsam_deploy.graph import raise_attention

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
        from ulsam_deploy.graph import make_golden
        from ulsam_deploy.graph.views import reference_maps, resolutions

        probes, names = self.probes  # first: a file that does not fit is said before anything that takes long
        captured, raised = self.captured, self.raised
        with self.progress.stage("reference") as said:
            golden = make_golden(captured, raised, probes, names)
            said.append(f"{len(names)} probes in float64, {len(raised.blocks)} ablated twins, noise floors")
        golden = self._with_yardsticks(golden)
        folder = self.private("truth")
        golden.save(folder / GOLDEN)
        reference_maps(captured, raised, golden).save(folder / MAPS)
        with self.progress.stage("resolution lint") as said:
            found = resolutions(raised, golden)
            (folder / RESOLUTION).write_text(codec.dumps(codec.encode(_Resolutions(found), RESOLUTION)))
            said.append(in_short(found))
        (folder / CARD).write_text(codec.dumps(codec.encode(self._card(), CARD)))
        (folder / NOTES).write_text(codec.dumps(codec.encode(_Notes(tuple(self._notes)), NOTES)))
        if self._cache:
            self._cache.put(self.key, folder)
        return folder

    @functools.cached_property
    def probes(self) -> tuple[ArrayMap, tuple[str, ...]]:
        """The built-in probes, the user's, and those samples of the calibration set that no range is taken from."""
        shapes = {spec.name: tuple(size or 1 for size in spec.shape[1:]) for spec in self.signature.inputs}
        how = self.options.preprocessing
        probes, names = own_probes.with_built_in(self.options.probes, shapes, self.batch, how)
        if self.split is None:
            return probes, names
        ranges, held_out = self.split
        calibration.check_disjoint(ranges, probes, names)
        more = len(next(iter(held_out.values())))
        joined = {name: np.concatenate([probes[name], held_out[name]]) for name in probes}
        return joined, (*names, *(f"held-out-{i}" for i in range(more)))

    @functools.cached_property
    def split(self) -> tuple[Calibration, ArrayMap] | None:
        """The calibration set without some samples, and those: real inputs to check on. ``None`` where none is used."""
        path = self.options.calibration
        if path is None or not set(self.options.judged) & set(CALIBRATED):
            return None
        whole = calibration.read_calibration(path, self.signature.inputs, self.options.preprocessing)
        if said := calibration.note(whole):
            self._note(said)
        return calibration.split(whole, self.batch)

    def _with_yardsticks(self, golden: Golden) -> Golden:
        """``golden`` with the noise floors of every low precision that was asked for."""
        from ulsam_deploy.graph import yardstick

        found = {}
        for precision in self.options.judged:
            if precision == "fp32":
                continue
            with self.progress.stage(f"honest {precision} runs") as said:
                ranges = self.split[0] if self.split else None
                found[precision] = yardstick(self.captured, self.raised, golden, precision, ranges)
                said.append(f"{len(found[precision].kept)} of {len(golden.probes)} probes")
        return dataclasses.replace(golden, yardsticks=found)

    def _card(self) -> ModelCard:
        return ModelCard(
            name=self.options.model.stem,
            sha256=self.digest,
            network=self.source.network,
            config={name: config_value(value) for name, value in self.source.config.items()},
            inputs=self.captured.inputs,
            outputs=self.captured.outputs,
            blocks=self.raised.blocks,
            refusals=self.raised.refusals,
            parameters=self.source.parameters,
            preprocessing=self.options.preprocessing,
        )

    @functools.cached_property
    def card(self) -> ModelCard:
        """What the manifest says about the model."""
        return codec.decode(ModelCard, codec.loads((self.truth / CARD).read_bytes(), CARD), CARD)

    @functools.cached_property
    def golden(self) -> Golden:
        """What every artifact is held against."""
        return Golden.load(self.truth / GOLDEN)

    @functools.cached_property
    def resolutions(self) -> tuple[Resolution, ...]:
        """What each block's attention meets in lower precisions."""
        text = (self.truth / RESOLUTION).read_bytes()
        return codec.decode(_Resolutions, codec.loads(text, RESOLUTION), RESOLUTION).blocks

    @functools.cached_property
    def watched(self) -> list[tuple[ArrayMap, list[Added]]]:
        """A few real inputs, a batch each, and what the reference's blocks make of them."""
        from ulsam_deploy.graph.views import watched

        return list(watched(self.raised, self.golden))

    def ranges(self, precision: str) -> Calibration | None:
        """What an artifact in ``precision`` takes its ranges from."""
        return self.split[0] if precision in CALIBRATED and self.split else None

    def lowered(self, exporter: Exporter, request: ExportRequest) -> Program:
        """The program as ``exporter`` wants it, proven equal in float64."""
        from ulsam_deploy.graph import lower

        lowering = exporter.lowering(request)
        if (exporter.target, lowering) not in self._lowered:
            program = lower(self.raised, lowering)
            self.proof.check(program, f"lowering for {exporter.target}")
            self._lowered[exporter.target, lowering] = program
        return self._lowered[exporter.target, lowering]

    def entry(self, exporter: Exporter, recipe: Recipe) -> str:
        """What the cache knows the artifact of ``exporter`` by ``recipe`` by."""
        about = [exporter.target, dataclasses.asdict(recipe), self.options.device, self.options.dla]
        return key(self.key, about, exporter.available_in(recipe.precision).detail, _engine(exporter))

    def is_cached(self, entry: str) -> bool:
        """Whether the cache holds ``entry``, whole."""
        return self._cache is not None and self._cache.get(entry) is not None

    def remembered(self, about: Sequence[object], compute: Callable[[], Mapping[str, Any]]) -> Mapping[str, Any]:
        """What ``compute`` gives, JSON-able, or gave before for the same network, options and ``about``."""
        entry = key("remembered", self.key, list(about))
        cached = self._cache.get(entry) if self._cache else None
        if cached:
            return dict(codec.loads((cached / REMEMBERED).read_bytes(), REMEMBERED))
        found = compute()
        if self._cache:
            folder = self._scratch / entry
            folder.mkdir(exist_ok=True)
            (folder / REMEMBERED).write_text(codec.dumps(found))
            self._cache.put(entry, folder)
        return found

    def made(self, exporter: Exporter, recipe: Recipe, folder: Path) -> Made:
        """The artifact of one target by ``recipe`` in ``folder``, with its evidence; cached where nothing changed."""
        entry = self.entry(exporter, recipe)
        cached = self._cache.get(entry) if self._cache else None
        if cached:
            shutil.copytree(cached / FILES, folder)
            kept = codec.decode(_Kept, codec.loads((cached / MADE).read_bytes(), MADE), MADE)
            with np.load(cached / TWINS, allow_pickle=False) as twins:
                readings = tuple((found[0], found[1], found[2]) if found else None for found in kept.inside)
                return Made(kept.artifact, kept.evidence, dict(twins), readings)
        folder.mkdir()
        made = build.make(self, exporter, recipe, folder)
        return made if self._handed_over else self.finished(exporter, recipe, folder, made)

    def finished(self, exporter: Exporter, recipe: Recipe, folder: Path, made: Made) -> Made:
        """``made`` with what is found out where nothing else runs, as timing is; from now on it is cached."""
        made = build.finish(self, made, folder)
        if self._cache:
            entry = self.entry(exporter, recipe)
            copy = self._scratch / entry
            kept_now = _Kept(made.artifact, made.evidence, tuple(found or () for found in made.inside))
            shutil.copytree(folder, copy / FILES)
            (copy / MADE).write_text(codec.dumps(codec.encode(kept_now, MADE)))
            np.savez_compressed(copy / TWINS, **made.silenced)  # type: ignore[arg-type]
            self._cache.put(entry, copy)
            shutil.rmtree(copy)  # a cache may refuse, and a search comes back to the same recipe
        return made

    def located(
        self, evidence: Evidence, feed: ArrayMap, values: Callable[[ArrayMap], ArrayMap], precision: str = "fp32"
    ) -> Evidence:
        """``evidence`` of a failure with one reason more: the first module of the network that differs.

        ``feed`` is the artifact's batch that shows it (:func:`~ulsam_deploy.device.verify.worst_batch`); ``values``
        gives every tensor inside the artifact for it.
        """
        from ulsam_deploy.graph import module_points
        from ulsam_deploy.graph.divergence import first_divergence

        captured = self.captured
        with self.progress.stage("where") as said:
            try:
                divergence = first_divergence(module_points(captured, feed, precision), values(feed))
            except UlsamError as error:
                said.append(f"not found: {error.found.splitlines()[0]}")
                return evidence
            said.append(divergence.module or "nowhere")
        place = Reason(divergence.module, ReasonKind.PLACE_FAULT, divergence.sentence())
        return dataclasses.replace(evidence, reasons=(*evidence.reasons, place))

    @property
    def batch(self) -> int:
        """How many probes are run at once; one where the batch is dynamic."""
        return self.options.batch or 1

    def notes(self) -> tuple[str, ...]:
        """What the user should know besides the outcomes; nothing is loaded only to find out."""
        if "truth" not in self.__dict__:
            return tuple(self._notes)
        kept = codec.decode(_Notes, codec.loads((self.truth / NOTES).read_bytes(), NOTES), NOTES).sentences
        refusals = (f"{refusal.path} is left as it is: {refusal.reason}" for refusal in self.card.refusals)
        return tuple(dict.fromkeys((*kept, *self._notes, *refusals)))

    def _note(self, sentence: str) -> None:
        """Say it now, and at the end; a run that finds the network in the cache says it as well."""
        self._notes.append(sentence)
        self.progress.say(f"  note: {sentence}")


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
