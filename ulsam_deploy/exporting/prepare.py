"""What every artifact of an export is checked against: the float64 reference, its noise floors and attention maps.

Cached by content: the network is read only if the cache does not have them, or if an artifact has to be built.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from ulsam_deploy.device import codec
from ulsam_deploy.device.arrays import ArrayMap
from ulsam_deploy.device.bundle import ModelCard
from ulsam_deploy.device.bundle.manifest import config_value
from ulsam_deploy.device.elsewhere.failure import Failure
from ulsam_deploy.device.errors import ExportError
from ulsam_deploy.device.maps import MAPS
from ulsam_deploy.device.parity import Added, Golden
from ulsam_deploy.device.progress import Progress
from ulsam_deploy.exporting.network import FusedNetwork, NetworkInputs, NetworkStages
from ulsam_deploy.exporting.options import ExportOptions
from ulsam_deploy.exporting.workspace import Workspace
from ulsam_deploy.graph.resolution import Resolution, in_short

if TYPE_CHECKING:
    from ulsam_deploy.graph import Program
    from ulsam_deploy.graph.watching.ablation import Folded

__all__ = ["GOLDEN", "Prepared", "prepare", "read_prepared"]

GOLDEN, CARD, RESOLUTION, NOTES = "golden.npz", "card.json", "resolution.json", "notes.json"
REFUSED = "refused.json"

#: A batch of real inputs, and what the reference's blocks compute for it.
Watched = tuple[ArrayMap, Sequence[Added]]


@dataclass(frozen=True)
class _Resolutions:
    """The form in which the forecasts are stored."""

    blocks: tuple[Resolution, ...]


@dataclass(frozen=True)
class _Notes:
    """The form in which the notes about the network and the user's files are stored."""

    sentences: tuple[str, ...]


@dataclass(frozen=True)
class _Refused:
    """The form in which the precisions that the network does not bear are stored, each with its error."""

    failures: Mapping[str, Failure]


@dataclass(frozen=True)
class Prepared:
    """What every artifact of one export is built from and checked against.

    Attributes:
        network: The earlier stages; each is computed when it is first called.
        folder: Holds the golden set, the reference's attention maps and the model card as files.
        card: What the manifest says about the model.
        golden: The reference in float64 on all probes.
        resolutions: The forecast for each block: what lower precisions do to its attention.
        batch: How many probes are run at once; one if the batch is dynamic.
        notes: What the user should know about the network besides its artifacts.
        watched: A few real inputs and what the reference's blocks compute for them; computed on the first call.
        gates: The watched attention gates and what each is folded to, learned on the same inputs.
        refused: The precisions that the network does not bear, such as a float16 that overflows, each with its error.
    """

    network: NetworkStages
    folder: Path
    card: ModelCard
    golden: Golden
    resolutions: tuple[Resolution, ...]
    batch: int
    notes: tuple[str, ...]
    watched: Callable[[], Sequence[Watched]]
    gates: Callable[[], Folded]
    refused: Mapping[str, Failure] = field(default_factory=dict)

    def check(self, precision: str) -> None:
        """Raise the error of a ``precision`` that the network does not bear."""
        if precision in self.refused:
            raise self.refused[precision].error()


def prepare(network: NetworkStages, options: ExportOptions, workspace: Workspace, progress: Progress) -> Prepared:
    """Compute the reference of ``network``, or take it from the cache.

    Args:
        network: The stages of the network; they are computed only if the cache does not have the reference.
        options: The precisions that noise floors are needed for, and the model's name.
        workspace: Where results are kept.
        progress: Reports each stage.

    Raises:
        UlsamError: The network cannot be read, captured or rewritten, or the probes do not fit it.
    """

    def write(folder: Path) -> None:
        inputs, captured, fused = network.inputs(), network.captured(), network.fused()
        if left := _write_reference(folder, captured, fused, inputs, options, progress):
            network.notes.append(_left_out(left))
            progress.say(f"  note: {network.notes[-1]}")
        (folder / CARD).write_text(codec.dumps(codec.encode(_card(network, options), CARD)))
        (folder / NOTES).write_text(codec.dumps(codec.encode(_Notes(tuple(network.notes)), NOTES)))

    return read_prepared(network, workspace.folder(network.key, write), options.batch or 1)


def read_prepared(network: NetworkStages, folder: Path, batch: int) -> Prepared:
    """Read from ``folder`` what :func:`prepare` stored there; ``network`` provides the network itself on demand."""
    golden = Golden.load(folder / GOLDEN)

    @functools.cache
    def watched() -> Sequence[Watched]:
        from ulsam_deploy.graph import views

        return list(views.watched(network.fused().program, golden))

    @functools.cache
    def gates() -> Folded:
        import torch

        from ulsam_deploy.graph import views
        from ulsam_deploy.graph.watching.choice import folded_on

        program = network.fused().program
        feeds = [[torch.from_numpy(array) for array in feed.values()] for feed in views.watched_feeds(program, golden)]
        return folded_on(program, golden.gates, feeds)

    card = codec.decode(ModelCard, codec.loads((folder / CARD).read_bytes(), CARD), CARD)
    found = codec.decode(_Resolutions, codec.loads((folder / RESOLUTION).read_bytes(), RESOLUTION), RESOLUTION)
    kept = codec.decode(_Notes, codec.loads((folder / NOTES).read_bytes(), NOTES), NOTES)
    refusals = (f"{refusal.path} is left as it is: {refusal.reason}" for refusal in card.refusals)
    notes = tuple(dict.fromkeys((*kept.sentences, *network.notes, *refusals)))
    refused = codec.decode(_Refused, codec.loads((folder / REFUSED).read_bytes(), REFUSED), REFUSED).failures
    return Prepared(network, folder, card, golden, found.blocks, batch, notes, watched, gates, refused)


def _write_reference(
    folder: Path,
    captured: Program,
    fused: FusedNetwork,
    inputs: NetworkInputs,
    options: ExportOptions,
    progress: Progress,
) -> tuple[str, ...]:
    """Compute and write the golden set, the attention maps and the forecasts; the paths of gates left out."""
    from ulsam_deploy.graph import make_golden, views
    from ulsam_deploy.graph.reference import choose_watched

    program = fused.program
    with progress.stage("reference") as said:
        watched = choose_watched(captured, program, inputs.probes, options.watch)
        golden = make_golden(captured, program, inputs.probes, inputs.names, watched)
        count = len(program.blocks) + len(watched.gates)
        said.append(f"{len(inputs.names)} probes in float64, {count} reference ablations, noise floors")
    golden, refused = _with_precision_floors(golden, captured, fused, options, progress)
    golden.save(folder / GOLDEN)
    (folder / REFUSED).write_text(codec.dumps(codec.encode(_Refused(refused), REFUSED)))
    views.reference_maps(captured, program, golden).save(folder / MAPS)
    with progress.stage("resolution lint") as said:
        found = views.resolutions(program, golden)
        (folder / RESOLUTION).write_text(codec.dumps(codec.encode(_Resolutions(found), RESOLUTION)))
        said.append(in_short(found))
    return watched.left_out


def _left_out(gates: Sequence[str]) -> str:
    """The sentence about attention gates that are not watched."""
    return (
        f"of the attention gates, those that move the outputs most are watched; {len(gates)} others are not, which "
        f"--watch all would: {', '.join(gates)}"
    )


def _with_precision_floors(
    golden: Golden, captured: Program, fused: FusedNetwork, options: ExportOptions, progress: Progress
) -> tuple[Golden, dict[str, Failure]]:
    """``golden`` with the noise floors of every requested precision below fp32, and the errors of those that fail."""
    from ulsam_deploy.graph import measure_floors

    found, refused = {}, {}
    for precision in options.judged:
        if precision == "fp32":
            continue
        with progress.stage(f"control runs in {precision}") as said:
            ranges = fused.split.ranges if fused.split else None
            try:
                found[precision] = measure_floors(captured, fused.program, golden, precision, ranges)
            except ExportError as error:  # the other precisions are made all the same
                refused[precision] = Failure.of(error)
                said.append(f"failed: {error.found}")
                continue
            said.append(f"{len(found[precision].kept)} of {len(golden.probes)} probes")
    return dataclasses.replace(golden, precision_floors=found), refused


def _card(network: NetworkStages, options: ExportOptions) -> ModelCard:
    source, captured, fused = network.loaded().source, network.captured(), network.fused().program
    return ModelCard(
        name=options.model.stem,
        sha256=network.digest,
        network=source.network,
        config={name: config_value(value) for name, value in source.config.items()},
        inputs=captured.inputs,
        outputs=captured.outputs,
        blocks=fused.blocks,
        refusals=fused.refusals,
        parameters=source.parameters,
        preprocessing=options.preprocessing,
    )
