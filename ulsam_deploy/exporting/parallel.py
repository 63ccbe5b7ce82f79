"""Builds targets in processes of their own: where that is faster, and where a converter might crash.

Conversion is most of an export, and converters are independent of each other. The network is captured and fused once;
its program goes to the processes in ``torch.export``'s own file format. A converter in native code may end its process
on a network that it does not support; the other targets are made all the same.
"""

from __future__ import annotations

import dataclasses
import functools
import io
import pickle
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from ulsam_deploy.device.bench.measure import peak_rss
from ulsam_deploy.device.elsewhere.failure import Failure
from ulsam_deploy.device.errors import ExportError, UlsamError
from ulsam_deploy.device.precisions import AUTO
from ulsam_deploy.device.progress import Progress, Stage
from ulsam_deploy.exporting.build import FILES, Builder, BuiltArtifact, build, load, save, stopped
from ulsam_deploy.exporting.network import FusedNetwork, NetworkStages
from ulsam_deploy.exporting.options import ExportOptions
from ulsam_deploy.exporting.plan import ExportPlan, PlannedArtifact, exporter_for, place
from ulsam_deploy.exporting.prepare import Prepared, read_prepared
from ulsam_deploy.exporting.requests import ArtifactRequest
from ulsam_deploy.exporting.workers import LostError, local, local_workers
from ulsam_deploy.inputs.calibration import CalibrationSplit

if TYPE_CHECKING:
    from ulsam_deploy.graph import Program, Proof

__all__ = ["BuiltElsewhere", "build_in_parallel"]

#: Programs with fewer nodes are converted here: that is faster than importing torch in another process.
SMALL = 100
#: Operators of these namespaces exist in every process; others are of the user's own code, and only in the first one.
KNOWN = frozenset({"aten", "prims", "ulsam"})
#: Measured memory of a converter and its engine, in bytes, in addition to twice the memory of preparing the network.
CONVERTER = 1 << 30

#: Whether exporters that ask for it get a process of their own.
ISOLATE = True

STATE, PROGRAM = "state.pickle", "fused.pt2"

Groups = Mapping[str, Sequence[PlannedArtifact]]


@dataclass(frozen=True)
class BuiltElsewhere:
    """An artifact that another process built in ``folder``, or the ``error`` that stopped it."""

    folder: Path
    error: UlsamError | None = None

    def move(self, into: Path) -> BuiltArtifact:
        """The artifact, its files moved into the empty folder ``into``."""
        for path in (self.folder / FILES).iterdir():
            shutil.move(path, into / path.name)
        return load(self.folder)


def build_in_parallel(plan: ExportPlan, builder: Builder) -> dict[PlannedArtifact, BuiltElsewhere]:
    """Build artifacts of ``plan`` in other processes: all where that is faster, or those of isolated exporters.

    Artifacts are not timed here: that has to wait until nothing else runs.
    """
    groups = _groups(plan, builder)
    workers = min(len(groups), local_workers(None, CONVERTER + 2 * (peak_rss() or 0))) if groups else 1
    if workers == 1 or len(builder.prepared.network.fused().program.exported.graph.nodes) < SMALL:
        groups = {target: group for target, group in groups.items() if _is_isolated(group)}
        workers = max(1, min(workers, len(groups)))
    if not groups:
        return {}
    with builder.progress.stage("targets") as said:
        found = _handed_out(groups, builder, workers)
        said.append(f"{', '.join(groups)}: {workers} at a time")
    return found


def _groups(plan: ExportPlan, builder: Builder) -> Groups:
    """The artifacts to build, by target; none if they cannot be handed over.

    A search times its artifacts and needs the machine for itself.
    """
    options = plan.options
    if options.tune or AUTO in options.precisions:
        return {}
    found: dict[str, list[PlannedArtifact]] = {}
    for planned in plan.artifacts:
        if planned.exporter and not builder.workspace.holds(builder.key(planned.exporter, planned.request.recipe)):
            found.setdefault(planned.request.target, []).append(planned)
    if not found or not _is_known(builder.prepared.network.fused().program):
        return {}
    return found


def _is_known(program: Program) -> bool:
    """Whether another process has every operator of ``program``."""
    targets = {node.target for node in program.exported.graph.nodes if node.op == "call_function"}
    return all(target.namespace in KNOWN for target in targets if hasattr(target, "namespace"))


def _is_isolated(group: Sequence[PlannedArtifact]) -> bool:
    return ISOLATE and any(planned.exporter and planned.exporter.isolated for planned in group)


def _handed_out(groups: Groups, builder: Builder, workers: int) -> dict[PlannedArtifact, BuiltElsewhere]:
    """Run the processes and collect what each built, or the error of one that died."""
    handed_over = builder.workspace.private("handed-over")
    _hand_over(builder.prepared, builder.options, handed_over)
    found: dict[PlannedArtifact, BuiltElsewhere] = {}
    with local(workers, lives=1) as pool:
        slow_first = sorted(groups.items(), key=lambda item: not _is_slow(item[1]))
        tasks = {
            target: pool.submit(_task, Task(handed_over, tuple(planned.request for planned in group)))
            for target, group in slow_first
        }
        for target, group in groups.items():
            try:
                done = tasks[target].result()
            except UlsamError as error:
                found.update((planned, _lost(planned, error, builder.progress)) for planned in group)
            else:
                builder.progress.tell(done.words, list(done.stages))
                found.update(zip(group, map(_left, done.left)))
    return found


def _is_slow(group: Sequence[PlannedArtifact]) -> bool:
    return any(planned.exporter and planned.exporter.slow for planned in group)


def _left(one: Left) -> BuiltElsewhere:
    return BuiltElsewhere(one.folder, one.failure.error() if one.failure else None)


def _lost(planned: PlannedArtifact, error: UlsamError, progress: Progress) -> BuiltElsewhere:
    """An artifact without a result: usually its process died, because a converter or an engine crashed."""
    progress.say(f"  {planned.folder:<22}failed: {error.found.splitlines()[0]}")
    if not isinstance(error, LostError):
        return BuiltElsewhere(Path(), error)
    told = ExportError(
        f"the process that made it died: {error.found}",
        expected=f"a converter and an engine that do not crash, within about {CONVERTER / 1e9:.0f} GB of memory",
        todo=f"export this target alone: --target {planned.request.target}",
    )
    return BuiltElsewhere(Path(), told)


@dataclass(frozen=True)
class _HandedOver:
    """What a process needs, besides the program itself, which cannot be pickled."""

    options: ExportOptions
    digest: str
    key: str
    reference: Path
    batch: int
    fused: Program
    proof: Proof
    split: CalibrationSplit | None


def _hand_over(prepared: Prepared, options: ExportOptions, folder: Path) -> None:
    """Write what is prepared to files, which only :func:`_taken_over` reads."""
    import torch

    fused = prepared.network.fused()
    written = io.BytesIO()  # on a full disk, torch's own writer raises an error that looks like a defect
    torch.export.save(fused.program.exported, written)
    (folder / PROGRAM).write_bytes(written.getbuffer())
    rest = dataclasses.replace(fused.program, exported=None)  # type: ignore[arg-type]
    network = prepared.network
    state = _HandedOver(
        options, network.digest, network.key, prepared.folder, prepared.batch, rest, fused.proof, fused.split
    )
    (folder / STATE).write_bytes(pickle.dumps(state))


@functools.cache
def _taken_over(folder: Path) -> tuple[Prepared, ExportOptions]:
    """Read, once in each process, what :func:`_hand_over` wrote."""
    import torch

    import ulsam_deploy.graph.operator  # noqa: F401 - the operators that the program uses

    state: _HandedOver = pickle.loads((folder / STATE).read_bytes())
    program = dataclasses.replace(state.fused, exported=torch.export.load(folder / PROGRAM))
    fused = FusedNetwork(program, state.proof, state.split)
    network = NetworkStages(state.digest, state.key, [], _not_here, _not_here, _not_here, lambda: fused)
    return read_prepared(network, state.reference, state.batch), state.options


def _not_here() -> NoReturn:
    raise AssertionError("the network itself stays in the first process")


@dataclass(frozen=True)
class Task:
    """The artifacts of one target, to be built from what was ``handed_over``."""

    handed_over: Path
    wanted: tuple[ArtifactRequest, ...]


@dataclass(frozen=True)
class Left:
    """One artifact in its ``folder``, or the error that stopped it."""

    folder: Path
    failure: Failure | None


@dataclass(frozen=True)
class Done:
    """The result of each artifact of a task, what was printed, and how long it took."""

    left: tuple[Left, ...]
    words: str
    stages: tuple[Stage, ...]


def _task(task: Task) -> Done:
    """Do one task; runs in another process."""
    prepared, options = _taken_over(task.handed_over)
    words = io.StringIO()
    progress = Progress(words, beat=False)
    left = tuple(_one(prepared, request, options, task.handed_over, progress) for request in task.wanted)
    return Done(left, words.getvalue(), tuple(progress.stages))


def _one(
    prepared: Prepared, request: ArtifactRequest, options: ExportOptions, handed_over: Path, progress: Progress
) -> Left:
    name = place(request.target, request.recipe.precision, options)
    folder = handed_over / name
    (folder / FILES).mkdir(parents=True)
    with progress.stage(name) as said:
        try:
            built = build(prepared, exporter_for(request, options), request.recipe, options, folder / FILES)
            save(built, folder)
        except Exception as error:
            told = stopped(error, request)
            said.append(f"failed: {told.found.splitlines()[0]}")
            return Left(folder, Failure.of(told))
        said.append(f"{built.evidence.level.label}, {built.evidence.verdict.value}")
    return Left(folder, None)
