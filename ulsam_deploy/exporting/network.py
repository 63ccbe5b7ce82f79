"""The stages of one export before any artifact: load, inputs, capture, fuse and prove, each computed on demand.

A run in which nothing changed needs none of them, and so never imports torch.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from ulsam_deploy.device.arrays import ArrayMap
from ulsam_deploy.device.cache import key, source_digest
from ulsam_deploy.device.errors import ExportError
from ulsam_deploy.device.precisions import CALIBRATED
from ulsam_deploy.device.progress import Progress
from ulsam_deploy.device.shapes import shape_text
from ulsam_deploy.device.third_party import version
from ulsam_deploy.exporting.options import ExportOptions
from ulsam_deploy.graph.interfaces import Exporter, ExportRequest
from ulsam_deploy.inputs import calibration, probes
from ulsam_deploy.inputs.calibration import CalibrationSplit
from ulsam_deploy.load import source
from ulsam_deploy.load.checkpoint import InMemory

if TYPE_CHECKING:
    from ulsam_deploy.graph import Program, Proof, Signature
    from ulsam_deploy.graph.rounding import RoundedWeights

__all__ = ["FusedNetwork", "LoadedNetwork", "NetworkInputs", "NetworkStages", "network_stages"]


@dataclass(frozen=True)
class LoadedNetwork:
    """The network with its weights, and its inputs and outputs, which one run before the capture has shown."""

    source: source.Source
    signature: Signature


@dataclass(frozen=True)
class NetworkInputs:
    """The inputs of the checks: ``probes`` (P, ...) by input name, a name for each, and the calibration set if used."""

    probes: ArrayMap
    names: tuple[str, ...]
    split: CalibrationSplit | None


@dataclass(frozen=True)
class FusedNetwork:
    """The fused network, from which artifacts are lowered.

    Attributes:
        program: The program, with every attention block as one node.
        proof: Checks each further rewrite.
        split: The calibration set, if one is used.
    """

    program: Program
    proof: Proof
    split: CalibrationSplit | None
    _lowered: dict[tuple[str, object], Program] = field(default_factory=dict, repr=False, compare=False)
    _weights: dict[int, RoundedWeights] = field(default_factory=dict, repr=False, compare=False)
    _rounded: dict[tuple[int, tuple[str, ...]], FusedNetwork] = field(default_factory=dict, repr=False, compare=False)

    def lowered(self, exporter: Exporter, request: ExportRequest) -> Program:
        """The program as ``exporter`` takes it for ``request``, proven equal in float64; computed once for each.

        Raises :class:`ExportError` if it is not equal.
        """
        from ulsam_deploy.graph import lower

        chosen = (exporter.target, exporter.lowering(request))
        if chosen not in self._lowered:
            program = lower(self.program, chosen[1], exporter.rewrites())
            self.proof.check(program, f"lowering for {exporter.target}")
            self._lowered[chosen] = program
        return self._lowered[chosen]

    def rounded(self, levels: int, keep: tuple[str, ...]) -> FusedNetwork:
        """The network whose weights lie on int8 grids, as every target gets it; computed once for each.

        Weights are chosen once (:mod:`ulsam_deploy.graph.rounding`) on the samples that ranges are taken from.

        Args:
            levels: The steps from zero to the largest weight (:meth:`Exporter.weight_levels`).
            keep: Paths of modules whose weights stay as they are.
        """
        from ulsam_deploy.graph import Proof
        from ulsam_deploy.graph.rounding import rounded_weights

        assert self.split is not None
        if levels not in self._weights:
            self._weights[levels] = rounded_weights(self.program, self.split.ranges, levels)
        if (levels, keep) not in self._rounded:
            program = self._weights[levels].within(self.program, keep)
            self._rounded[levels, keep] = FusedNetwork(program, Proof(program), self.split)
        return self._rounded[levels, keep]


@dataclass(frozen=True)
class NetworkStages:
    """The stages before any artifact; each is computed when it is first called, and raises the error that stops it.

    Attributes:
        digest: SHA-256 of the checkpoint file, or of the weights of a network in memory.
        key: The cache key; it changes with anything that the program or the reference depends on.
        notes: The notes so far about the network and the user's files.
        loaded: The network itself.
        inputs: The probes and the calibration set.
        captured: The network as ``torch.export`` sees it.
        fused: The same with its attention fused, proven equal in float64.
    """

    digest: str
    key: str
    notes: list[str]
    loaded: Callable[[], LoadedNetwork]
    inputs: Callable[[], NetworkInputs]
    captured: Callable[[], Program]
    fused: Callable[[], FusedNetwork]


def network_stages(options: ExportOptions, progress: Progress, given: InMemory | None = None) -> NetworkStages:
    """Set up the stages of the network that ``options`` name; reads only the model's bytes, for its digest.

    Args:
        options: The network, its inputs, and the precisions to judge it in.
        progress: Reports each stage and each note.
        given: The network itself, if it is in memory.

    Raises:
        UsageError: The model, the probes or the calibration set cannot be read.
    """
    notes: list[str] = []

    def note(sentence: str) -> None:
        notes.append(sentence)
        progress.say(f"  note: {sentence}")

    if options.calibration is not None and not set(options.judged) & set(CALIBRATED):
        # printed but not stored as a note: what is cached does not depend on the set
        progress.say("  note: no artifact of the recipes takes ranges, so the calibration set is not read")
    digest = source.file_digest(options) if given is None else given.sha256
    loaded = functools.cache(lambda: _loaded(options, progress, note, given))
    inputs = functools.cache(lambda: _inputs(loaded().signature, options, note))
    captured = functools.cache(lambda: _captured(loaded().source, options, progress))
    fused = functools.cache(lambda: _fused(loaded().source, captured(), inputs().split, options, progress))
    return NetworkStages(digest, reference_key(options, digest), notes, loaded, inputs, captured, fused)


def reference_key(options: ExportOptions, digest: str) -> str:
    """The cache key of everything that the program or the golden set depends on; ``digest``: the model's SHA-256."""
    o = options
    own = probes.digest(o.probes) if o.probes else ""
    low = sorted(set(o.judged) - {"fp32"})
    ranges = probes.digest(o.calibration) if o.calibration and set(low) & set(CALIBRATED) else ""
    asked: list[object] = [o.arch, o.factory, o.variant, o.inputs, o.batch, o.weights, o.trust_pickle]
    asked += [sorted(o.allow_globals), own, low, ranges]
    asked += [dataclasses.asdict(o.preprocessing) if o.preprocessing else None, o.watch]
    return key("reference", digest, o.model.stem, asked, probes.PROBES, source_digest(), version("torch"))


def _loaded(
    options: ExportOptions, progress: Progress, note: Callable[[str], None], given: InMemory | None
) -> LoadedNetwork:
    from ulsam_deploy.graph import signature

    with progress.stage("load") as said:
        loaded = source.load(options, given)
        said.append(f"{loaded.network}, {loaded.parameters / 1e6:.2f} M parameters")
    for sentence in loaded.notes:
        note(sentence)
    return LoadedNetwork(loaded, signature(loaded.model, loaded.input_shapes, options.batch))


def _inputs(signature: Signature, options: ExportOptions, note: Callable[[str], None]) -> NetworkInputs:
    """The built-in probes, the user's own, and the samples of the calibration set that are kept for checking."""
    shapes = {spec.name: tuple(size or 1 for size in spec.shape[1:]) for spec in signature.inputs}
    batch = options.batch or 1
    inputs, names = probes.with_built_in(options.probes, shapes, batch, options.preprocessing)
    if options.calibration is None or not set(options.judged) & set(CALIBRATED):
        return NetworkInputs(inputs, names, None)
    whole = calibration.read_calibration(options.calibration, signature.inputs, options.preprocessing)
    if sentence := calibration.note(whole):
        note(sentence)
    split = calibration.split(whole, batch)
    calibration.check_disjoint(split.ranges, inputs, names)
    more = len(next(iter(split.held_out.values())))
    joined = {name: np.concatenate([inputs[name], split.held_out[name]]) for name in inputs}
    return NetworkInputs(joined, (*names, *(f"held-out-{i}" for i in range(more))), split)


def _captured(loaded: source.Source, options: ExportOptions, progress: Progress) -> Program:
    from ulsam_deploy.graph import capture, check_repeatable

    with progress.stage("capture") as said:
        program = capture(loaded.model, loaded.input_shapes, options.batch)
        check_repeatable(loaded.model, program, loaded.again)
        said.append(", ".join(f"{spec.name} {shape_text(spec.shape)}" for spec in program.inputs))
    return program


def _fused(
    loaded: source.Source,
    captured: Program,
    split: CalibrationSplit | None,
    options: ExportOptions,
    progress: Progress,
) -> FusedNetwork:
    from ulsam_deploy.graph import Proof, fuse_attention

    proof = Proof(captured)
    if loaded.reference:
        proof.hold(loaded.reference, "reading the model")
    with progress.stage("fuse and prove") as said:
        program = fuse_attention(captured)
        _check_expected(program, loaded, options)
        difference = proof.check(program, "fusing the attention")
        said.append(f"{len(program.blocks)} attention blocks, equal in float64 to {difference:.1g}")
    for refusal in program.refusals:
        progress.say(f"  note: {refusal.path} looks like ULSAM and is left as it is: {refusal.reason}")
    return FusedNetwork(program, proof, split)


def _check_expected(program: Program, loaded: source.Source, options: ExportOptions) -> None:
    """Raise an error if blocks were missed in a network that is known to have ULSAM, instead of passing silently."""
    found, expected = len(program.blocks) + len(program.refusals), loaded.expected_blocks
    if expected is not None and (found != expected or (program.refusals and not options.variant)):
        reasons = "; ".join(f"{r.path}: {r.reason}" for r in program.refusals)
        raise ExportError(
            f"{len(program.blocks)} of {expected} attention blocks were fused" + (f" ({reasons})" if reasons else ""),
            expected=f"all {expected} blocks of {loaded.network} in the form that this tool proves",
            todo="if this is a known variant of the module, say so with --ulsam-variant",
        )
