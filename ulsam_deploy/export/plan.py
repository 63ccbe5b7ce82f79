"""What an export would do, found out without doing it: its stages and artifacts, what is cached, what is not possible.

Whatever the export would refuse, its plan refuses: the same functions read the network and the user's files, and run
the network once. Nothing is made or written; of what the cache holds nothing is read again, and torch is not imported.
"""

from __future__ import annotations

from dataclasses import dataclass

from ulsam_deploy.device.errors import Exit, UlsamError, combine
from ulsam_deploy.device.progress import Progress
from ulsam_deploy.export.options import ExportOptions
from ulsam_deploy.export.outcome import Asked, exporter_for, place
from ulsam_deploy.export.prepare import Road
from ulsam_deploy.export.requests import asked, check_network

CACHED, TO_DO, SKIPPED = "from the cache", "to do", "skipped"


@dataclass(frozen=True)
class Step:
    """One step in order. ``state`` is one of ``from the cache``, ``to do`` and ``skipped``; ``why`` says more."""

    name: str
    target: str | None
    precision: str | None
    state: str
    why: str


@dataclass(frozen=True)
class Plan:
    """What would happen. ``replaces``: a bundle lies at ``bundle`` already. ``exit_code`` as far as it is known now.

    ``notes``: what the user should know about the network and the inputs, such as a size that is assumed.
    """

    model: str
    sha256: str
    bundle: str
    replaces: bool
    steps: tuple[Step, ...]
    notes: tuple[str, ...]
    exit_code: int


def plan(options: ExportOptions) -> Plan:
    """The plan of :func:`ulsam_deploy.export.pipeline.export`; raises what that would raise before it starts."""
    wanted = asked(options)
    with Road(options, Progress(quiet=True)) as road:
        digest = road.digest
        made = [_artifact(road, one) for one in wanted]
        steps = [step for step, _ in made]
        used = any(step.state != SKIPPED for step in steps)
        network = _network(road, needed=used)
        check_network(road, wanted)
        if used and road.is_cached(road.key):
            road.truth  # noqa: B018 - what was noted while it was made
        notes = road.notes()
    codes = [error.exit_code for one, (_, error) in zip(wanted, made) if error and one.is_required(error)]
    if all(error for _, error in made):
        codes.append(Exit.UNAVAILABLE)
    last = Step("bundle", None, None, TO_DO, "golden set, attention maps, bill of materials, report")
    whole = [*network, *steps, last] if network else steps
    return Plan(
        model=str(options.model),
        sha256=digest,
        bundle=str(options.bundle),
        replaces=options.bundle.exists(),
        steps=tuple(whole),
        notes=notes,
        exit_code=int(combine(codes) if codes else Exit.OK),
    )


def _network(road: Road, *, needed: bool) -> list[Step]:
    """What is done once for all artifacts; nothing where none of them can be made."""
    if not needed:
        return []
    low = [precision for precision in dict.fromkeys(road.options.precisions) if precision != "fp32"]
    names = ["load", "capture", "raise and prove", "reference", *(f"honest {precision} runs" for precision in low)]
    state = CACHED if road.is_cached(road.key) else TO_DO
    why = "--model runs your code, so nothing of it is ever cached" if road.options.factory else ""
    return [Step(name, None, None, state, why) for name in names]


def _artifact(road: Road, one: Asked) -> tuple[Step, UlsamError | None]:
    name = place(one.target, one.recipe.precision, road.options)
    try:
        exporter = exporter_for(one, road.options)
    except UlsamError as error:
        why = error.found + (f" ({error.todo})" if error.todo else "")
        return Step(name, one.target, one.recipe.precision, SKIPPED, why), error
    if road.options.tune and exporter.lowerings:
        why = "the equal forms of its attention are timed first"
        return Step(name, one.target, one.recipe.precision, TO_DO, why), None
    state = CACHED if road.is_cached(road.entry(exporter, one.recipe)) else TO_DO
    return Step(name, one.target, one.recipe.precision, state, ""), None
