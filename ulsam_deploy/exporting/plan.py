"""What an export will do: the requested artifacts, in order, and whether each can be made here.

``--dry-run`` prints the same plan that :func:`ulsam_deploy.exporting.pipeline.export` carries out.
"""

from __future__ import annotations

from dataclasses import dataclass

from ulsam_deploy.device import plugins
from ulsam_deploy.device.commands.answer import schema_field
from ulsam_deploy.device.errors import Exit, UlsamError, UnavailableError, combine
from ulsam_deploy.device.precisions import AUTO
from ulsam_deploy.device.verify import label
from ulsam_deploy.exporting.build import artifact_key
from ulsam_deploy.exporting.options import ExportOptions
from ulsam_deploy.exporting.requests import ArtifactRequest, requested
from ulsam_deploy.exporting.workspace import Workspace
from ulsam_deploy.graph.interfaces import Exporter

__all__ = [
    "ExportPlan",
    "PlanDocument",
    "PlanStep",
    "PlannedArtifact",
    "describe",
    "exporter_for",
    "make_plan",
    "place",
]

CACHED, TO_DO, SKIPPED = "from the cache", "to do", "skipped"


@dataclass(frozen=True)
class PlannedArtifact:
    """One artifact in the plan: the ``exporter`` that makes it in ``folder`` of the bundle, or the ``error``."""

    request: ArtifactRequest
    folder: str
    exporter: Exporter | None
    error: UlsamError | None = None


@dataclass(frozen=True)
class ExportPlan:
    """The artifacts to make, in the requested order."""

    options: ExportOptions
    artifacts: tuple[PlannedArtifact, ...]

    @property
    def is_possible(self) -> bool:
        """Whether anything at all can be made here."""
        return any(planned.exporter for planned in self.artifacts)


def make_plan(options: ExportOptions, *, is_file: bool = True) -> ExportPlan:
    """Make the plan of an export. It reads nothing of the network and does not import torch.

    Args:
        options: The options of the export.
        is_file: Whether the model is a file, and not a network in memory.

    Raises:
        UsageError: The options contradict each other or name what does not exist, or the bundle cannot be written.
        UnavailableError: The device does not have the requested accelerator.
    """
    return ExportPlan(options, tuple(_planned(request, options) for request in requested(options, is_file=is_file)))


def _planned(request: ArtifactRequest, options: ExportOptions) -> PlannedArtifact:
    folder = place(request.target, request.recipe.precision, options)
    try:
        return PlannedArtifact(request, folder, exporter_for(request, options))
    except UlsamError as error:
        return PlannedArtifact(request, folder, None, error)


def place(target: str, precision: str, options: ExportOptions) -> str:
    """The artifact's folder in the bundle: its target's name, with the precision if there are several."""
    return label(target, precision) if len(set(options.precisions)) > 1 else target


def exporter_for(request: ArtifactRequest, options: ExportOptions) -> Exporter:
    """The exporter for ``request``; raises :class:`UlsamError` if it cannot make the artifact here."""
    exporter: Exporter = plugins.load(plugins.EXPORTERS, request.target)
    precision = request.recipe.precision
    # auto always starts from the exporter's first precision; what it cannot make of the others is a trial's result.
    _check_possible(exporter, exporter.precisions[0] if precision == AUTO else precision, options)
    return exporter


def _check_possible(exporter: Exporter, precision: str, options: ExportOptions) -> None:
    if precision not in exporter.precisions:
        raise UnavailableError(
            f"{exporter.target} has no precision '{precision}'", expected=", ".join(exporter.precisions)
        )
    available = exporter.available_in(precision)
    if not available.usable:
        raise UnavailableError(f"{exporter.target}: {available.detail}", todo=available.todo)
    if options.device and exporter.for_devices:
        exporter.check_device(options.device)
    if exporter.single and options.batch != 1:
        raise UnavailableError(
            f"{exporter.target} takes one input at a time",
            expected="a batch of 1",
            todo=f"export this target with --batch 1: --target {exporter.target} --batch 1",
        )
    if options.batch is None and not exporter.dynamic_batch:
        raise UnavailableError(
            f"{exporter.target} artifacts are static: they cannot have a dynamic batch",
            expected="a fixed batch size",
            todo=f"export this target with --batch 1 (or another number): --target {exporter.target} --batch 1",
        )


@dataclass(frozen=True)
class PlanStep:
    """One step of the plan. ``state`` is ``from the cache``, ``to do`` or ``skipped``; ``why`` gives the reason."""

    name: str
    target: str | None
    precision: str | None
    state: str
    why: str


@dataclass(frozen=True)
class PlanDocument:
    """The plan as a document.

    Attributes:
        replaces: Whether there is already a bundle at ``bundle``.
        notes: What the user should know about the network and the inputs, such as an assumed input size.
        exit_code: The exit code as far as it is known before anything is made.
    """

    model: str
    sha256: str
    bundle: str
    replaces: bool
    steps: tuple[PlanStep, ...]
    notes: tuple[str, ...]
    exit_code: int
    schema: str = schema_field("plan", 2)


def describe(plan: ExportPlan, digest: str, key: str, notes: tuple[str, ...], workspace: Workspace) -> PlanDocument:
    """Describe ``plan`` for the user.

    Args:
        plan: The plan of the export.
        digest: SHA-256 of the model.
        key: The cache key of its network.
        notes: Notes collected while the network was read.
        workspace: Tells what is cached.
    """
    options = plan.options
    steps = [_artifact(planned, key, options, workspace) for planned in plan.artifacts]
    network = _network(key, options, workspace) if plan.is_possible else []
    errors = [(planned.request, planned.error) for planned in plan.artifacts if planned.error]
    codes = [error.exit_code for request, error in errors if request.is_required(error)]
    if not plan.is_possible:
        codes.append(Exit.UNAVAILABLE)
    last = PlanStep("bundle", None, None, TO_DO, "golden set, attention maps, bill of materials, report")
    return PlanDocument(
        model=str(options.model),
        sha256=digest,
        bundle=str(options.bundle),
        replaces=options.bundle.exists(),
        steps=tuple([*network, *steps, last] if network else steps),
        notes=notes,
        exit_code=int(combine(codes)),
    )


def _network(key: str, options: ExportOptions, workspace: Workspace) -> list[PlanStep]:
    """The steps that are done once for all artifacts."""
    low = [precision for precision in dict.fromkeys(options.precisions) if precision != "fp32"]
    names = ["load", "capture", "fuse and prove", "reference", *(f"control runs in {precision}" for precision in low)]
    state = CACHED if workspace.holds(key) else TO_DO
    why = "--model runs your code, so nothing of it is ever cached" if options.factory else ""
    return [PlanStep(name, None, None, state, why) for name in names]


def _artifact(planned: PlannedArtifact, key: str, options: ExportOptions, workspace: Workspace) -> PlanStep:
    target, recipe = planned.request.target, planned.request.recipe
    if planned.exporter is None:
        error = planned.error
        why = f"{error.found}" + (f" ({error.todo})" if error.todo else "") if error else ""
        return PlanStep(planned.folder, target, recipe.precision, SKIPPED, why)
    if options.tune and planned.exporter.lowerings:
        return PlanStep(
            planned.folder, target, recipe.precision, TO_DO, "the equal forms of its attention are timed first"
        )
    state = CACHED if workspace.holds(artifact_key(key, planned.exporter, recipe, options)) else TO_DO
    return PlanStep(planned.folder, target, recipe.precision, state, "")
