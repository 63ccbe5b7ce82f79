"""Targets abreast: each in a process of its own, as far as cores and memory go, from what one process captured.

Conversion is most of an export, and every converter is a world of its own: none of them minds the others. The network
is captured and raised once; its program goes to the processes in ``torch.export``'s own file format.
"""

from __future__ import annotations

import atexit
import contextlib
import dataclasses
import functools
import io
import pickle
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from ulsam_deploy.device import plugins
from ulsam_deploy.device.bench import peak_rss
from ulsam_deploy.device.errors import ExportError, UlsamError
from ulsam_deploy.device.precisions import AUTO
from ulsam_deploy.device.progress import Progress, Stage
from ulsam_deploy.export.outcome import Asked, Outcome, exporter_for, one, place
from ulsam_deploy.export.prepare import Road
from ulsam_deploy.export.workers import LostError, local, local_workers
from ulsam_deploy.graph.interfaces import Exporter

__all__ = ["abreast"]

#: Programs with fewer nodes than this are converted sooner than a process that could do it has imported torch.
SMALL = 100
#: What a converter and its engine were seen to take, in bytes, besides twice what the road itself took.
CONVERTER = 1 << 30

STATE, PROGRAM = "road.pickle", "raised.pt2"
#: The stages that a process goes on from, besides the program itself.
STAGES = ("digest", "key", "truth", "proof", "split")


def abreast(road: Road, wanted: Sequence[Asked], folder: Path) -> list[Outcome]:
    """What became of each of ``wanted``, in this order; the artifacts lie in ``folder``.

    Raises the network's own failure. What a search with ``auto`` has chosen already is not made once more.
    """
    targets = _groups(road, wanted)
    workers = min(len(targets), local_workers(None, CONVERTER + 2 * (peak_rss() or 0))) if targets else 1
    if workers == 1:
        return _several(road, wanted, folder)
    with road.progress.stage("targets") as said:
        found = _handed_out(road, targets, folder, workers)
        said.append(f"{', '.join(targets)}: {workers} at a time")
    return [found.get(asked) or one(road, asked, folder) for asked in wanted]


def _groups(road: Road, wanted: Sequence[Asked]) -> dict[str, list[Asked]]:
    """What is worth a process of its own, by target; nothing where the program cannot be handed over or is small.

    A search times what it makes, and needs the machine to itself. The operators of a user's own code exist here only.
    """
    options = road.options
    if road.given is not None or options.factory or options.trust_pickle or options.tune or AUTO in options.precisions:
        return {}
    possible: dict[Asked, Exporter] = {}
    for asked in wanted:
        with contextlib.suppress(UlsamError):  # which is said in its turn
            possible[asked] = exporter_for(asked, options)
    if len({asked.target for asked in possible}) < 2:
        return {}
    road.truth  # noqa: B018 - the network's own errors end the run here, before any target is blamed for them
    found: dict[str, list[Asked]] = {}
    for asked, exporter in possible.items():
        if not road.is_cached(road.entry(exporter, asked.recipe)):
            found.setdefault(asked.target, []).append(asked)
    return found if len(found) > 1 and len(road.captured.exported.graph.nodes) >= SMALL else {}


def _handed_out(road: Road, targets: Mapping[str, list[Asked]], folder: Path, workers: int) -> dict[Asked, Outcome]:
    """The outcomes from processes; artifacts are timed and cached here, when all are done and nothing else runs."""
    handed_over = road.private("handed-over")
    _hand_over(road, handed_over)
    found: dict[Asked, Outcome] = {}
    with local(workers, lives=1) as pool:
        slow_first = sorted(targets, key=lambda target: not plugins.load(plugins.EXPORTERS, target).slow)
        tasks = {target: pool.submit(_task, handed_over, targets[target], folder) for target in slow_first}
        for target, group in targets.items():
            try:
                outcomes, words, stages = tasks[target].result()
            except LostError as error:
                outcomes, words, stages = [_lost(road, asked, folder, error) for asked in group], "", []
            road.progress.tell(words, stages)
            found.update(zip(group, outcomes))
    return {asked: _finished(road, asked, outcome, folder) for asked, outcome in found.items()}


def _lost(road: Road, asked: Asked, folder: Path, error: LostError) -> Outcome:
    """The process died over it: a crash in a converter or an engine."""
    into = place(asked.target, asked.recipe.precision, road.options)
    shutil.rmtree(folder / into, ignore_errors=True)
    road.progress.say(f"  {into:<22}failed: {error.found}")
    told = ExportError(
        f"making it took its process along: {error.found}",
        expected=f"a converter and an engine that live, within some {CONVERTER / 1e9:.0f} GB of memory",
        todo=f"see how it ends alone: --target {asked.target}",
    )
    return Outcome(asked.target, asked.recipe.precision, error=told)


def _finished(road: Road, asked: Asked, outcome: Outcome, folder: Path) -> Outcome:
    if outcome.made is None:
        return outcome
    exporter = plugins.load(plugins.EXPORTERS, asked.target)
    into = folder / place(asked.target, asked.recipe.precision, road.options)
    return dataclasses.replace(outcome, made=road.finished(exporter, asked.recipe, into, outcome.made))


def _hand_over(road: Road, folder: Path) -> None:
    """The road as far as it was walked, in files that :func:`_taken_over` reads; nobody else does."""
    import torch

    raised = road.raised
    written = io.BytesIO()  # on a full disk torch's own writer raises what no one could tell from a fault of ours
    torch.export.save(raised.exported, written)
    (folder / PROGRAM).write_bytes(written.getbuffer())
    rest = dataclasses.replace(raised, exported=None)  # type: ignore[arg-type]
    state = (dataclasses.replace(road.options, cache=False), road.walked(*STAGES), rest)
    (folder / STATE).write_bytes(pickle.dumps(state))


@functools.cache
def _taken_over(folder: Path) -> Road:
    """In a process, once: the road from there."""
    import torch

    import ulsam_deploy.graph  # noqa: F401 - the operators that the program uses

    options, walked, rest = pickle.loads((folder / STATE).read_bytes())
    exported = torch.export.load(folder / PROGRAM)
    road = Road(options, Progress(io.StringIO(), beat=False))
    atexit.register(road.__exit__)
    road.resume({**walked, "raised": dataclasses.replace(rest, exported=exported)})
    return road


def _task(handed_over: Path, wanted: Sequence[Asked], folder: Path) -> tuple[list[Outcome], str, list[Stage]]:
    """In a process: the artifacts of one target, what was said, and how long it took."""
    road, words = _taken_over(handed_over), io.StringIO()
    road.progress = Progress(words, beat=False)
    outcomes = [one(road, asked, folder) for asked in wanted]
    return outcomes, words.getvalue(), road.progress.stages


def _several(road: Road, wanted: Sequence[Asked], folder: Path) -> list[Outcome]:
    outcomes: list[Outcome] = []
    for asked in wanted:
        if not any(o.found and (o.target, o.precision) == (asked.target, asked.recipe.precision) for o in outcomes):
            outcomes.append(one(road, asked, folder))  # else auto, which comes first, has chosen just it
    return outcomes
