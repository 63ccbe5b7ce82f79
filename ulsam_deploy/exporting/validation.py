"""Checks, before anything is made, that the network and the user's files fit the options of an export.

A dry run calls the same functions as the real one, in the same order. What is in the cache passed these checks when it
was made.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence

from ulsam_deploy.device.accuracy import open_labelled
from ulsam_deploy.device.accuracy.measuring import class_count
from ulsam_deploy.device.errors import UsageError
from ulsam_deploy.device.precisions import AUTO
from ulsam_deploy.exporting.build import artifact_key
from ulsam_deploy.exporting.network import NetworkStages
from ulsam_deploy.exporting.options import ExportOptions
from ulsam_deploy.exporting.plan import ExportPlan
from ulsam_deploy.exporting.workspace import Workspace

__all__ = ["check_network"]


def check_network(plan: ExportPlan, network: NetworkStages, workspace: Workspace) -> None:
    """Read the inputs of an export, and nothing more: the network, which runs once, and the user's files.

    Args:
        plan: The plan of the export; if none of it is possible here, nothing is read.
        network: The network to export.
        workspace: Tells what is cached.

    Raises:
        UsageError: The network is unknown or does not accept its input, or a file or a name does not fit it.
        ExportError: The checkpoint is damaged.
    """
    if not plan.is_possible:
        return
    known = workspace.holds(network.key)
    if not known:
        _check_data(network, plan.options)
    new = [
        planned.request.recipe
        for planned in plan.artifacts
        if planned.exporter
        and (
            planned.request.recipe.precision == AUTO
            or not workspace.holds(artifact_key(network.key, planned.exporter, planned.request.recipe, plan.options))
        )
    ]
    searched = plan.options.keep if AUTO in plan.options.precisions else ()
    _check_modules(network, dict.fromkeys([*searched, *(path for recipe in new for path in recipe.keep)]))
    _check_geometries(network, [geometry for recipe in new for geometry, _ in recipe.lowerings])


def _check_data(network: NetworkStages, options: ExportOptions) -> None:
    ports = network.loaded().signature
    network.inputs()
    if options.data is not None:
        data = open_labelled(options.data, ports.inputs, class_count(ports.outputs), options.preprocessing)
        next(data.batches(1), None)


def _check_modules(network: NetworkStages, paths: Iterable[str]) -> None:
    """Raise :class:`UsageError` for a path in ``paths`` at which the network has no module."""
    for path in paths:
        model = network.loaded().source.model
        modules = dict(model.named_modules())
        if path.split("#")[0] not in modules:  # "#2": the second use of the same module
            near = difflib.get_close_matches(path, modules, 3)
            raise UsageError(
                f"--keep {path}: the network has no such module",
                expected=", ".join(near) or ", ".join(name for name, _ in model.named_children()),
                todo="name a module by its path in PyTorch, as named_modules() lists it",
            )


def _check_geometries(network: NetworkStages, geometries: Sequence[str]) -> None:
    """Raise :class:`UsageError` for a lowering of blocks that the network does not have."""
    if not geometries:
        return
    known = dict.fromkeys(block.geometry for block in network.fused().program.blocks)
    for geometry in geometries:
        if geometry not in known:
            raise UsageError(
                f"the recipe has a lowering for blocks of {geometry}, and the network has none",
                expected=", ".join(known) or "no lowerings: there is no attention block",
            )
