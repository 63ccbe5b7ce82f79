"""What an export is asked for: the artifacts to make, and whatever in the options, files or network contradicts it.

Everything that is typed is used or refused. A dry run calls the same functions as the real one, in the same order:
:func:`asked` looks at the options alone, :func:`check_network` reads the network and the user's files.
"""

from __future__ import annotations

import contextlib
import difflib
from collections.abc import Iterable, Sequence

from ulsam_deploy.device import plugins
from ulsam_deploy.device.accuracy import open_labelled
from ulsam_deploy.device.accuracy.measuring import class_count
from ulsam_deploy.device.bundle import check_writable
from ulsam_deploy.device.errors import UlsamError, UsageError
from ulsam_deploy.device.invocation import command
from ulsam_deploy.device.precisions import AUTO, CALIBRATED, NO_CALIBRATION, QUANTIZED
from ulsam_deploy.device.profiles import check_dla, device
from ulsam_deploy.device.targets import ALL, check_targets, parse_targets
from ulsam_deploy.device.types import Tier
from ulsam_deploy.export.budget import Budget
from ulsam_deploy.export.options import REACHABLE, ExportOptions, Recipe
from ulsam_deploy.export.outcome import Asked, exporter_for
from ulsam_deploy.export.prepare import Road
from ulsam_deploy.graph.interfaces import Exporter
from ulsam_deploy.load.source import check_readable

__all__ = ["asked", "check_network"]


def asked(options: ExportOptions, *, is_file: bool = True) -> list[Asked]:
    """What to make, in the order asked for.

    Args:
        options: of the export.
        is_file: whether the model is a file, and not a network in memory.

    Returns:
        An item for each target and precision; those of a target that was named are required.

    Raises:
        UsageError: an option that contradicts another one, or means nothing beside it.
        UnavailableError: a device that has no such accelerator.
    """
    if is_file:
        check_readable(options.model)
    check_writable(options.bundle)
    _check_required(options)
    if options.device:
        device(options.device)
    if options.dla:
        for precision in options.precisions:
            check_dla(options.device, precision, options.batch)
    known = plugins.registered(plugins.EXPORTERS)
    targets = parse_targets(options.targets)
    check_targets(targets, [*known, ALL])
    _check_quantization(options)
    _check_searches(options)
    every = ALL in targets
    if options.recipes:
        chosen = list(options.recipes if every else targets)
        for name in chosen:
            if name not in options.recipes or name not in known:
                expected = ", ".join(set(options.recipes) & set(known))
                raise UsageError(f"the recipe has nothing for target '{name}'", expected=expected)
        found = [Asked(name, options.recipes[name], True) for name in chosen]
    else:
        found = [
            Asked(target, Recipe(precision, options.keep if precision in QUANTIZED else ()), target in targets)
            for target in (known if every else targets)
            for precision in sorted(dict.fromkeys(options.precisions), key=AUTO.__ne__)
        ]
    _check_exporters(options, found)
    return found


def _check_required(options: ExportOptions) -> None:
    """Raise :class:`UsageError` for evidence that no export gives: it neither emulates nor runs on a device."""
    if options.require > REACHABLE[-1]:
        how = ["--device", "NAME"] if options.require is Tier.EMULATED_ON_DEVICE_CPU else ["--host", "USER@NAME"]
        raise UsageError(
            f"an export never reaches '{options.require.label}'",
            expected="one of " + ", ".join(tier.label for tier in REACHABLE),
            todo=f"export, then: {command('verify', options.bundle, *how, '--require', options.require.label)}",
        )


def _check_quantization(options: ExportOptions) -> None:
    """Raise :class:`UsageError` for int8 without real inputs, and for what only int8 has a use for without int8."""
    if options.recipes and (options.keep or options.precisions != ("fp32",)):
        raise UsageError("recipes and precisions both say how artifacts are made", expected="one of the two")
    calibrated = set(options.judged) & set(CALIBRATED)
    if calibrated and options.calibration is None:
        raise UsageError("int8 needs real inputs to take ranges from", expected="--calibration", todo=NO_CALIBRATION)
    if options.calibration is not None and not calibrated:
        raise UsageError(
            f"the calibration set is for int8, and {' and '.join(options.judged)} was asked for",
            expected="--precision int8 (or auto) as well, or no --calibration",
        )
    if options.keep and not set(options.judged) & set(QUANTIZED):
        raise UsageError(
            f"--keep leaves modules in floating point, and so does {' and '.join(options.judged)} with all of them",
            expected=f"--precision {' or '.join(QUANTIZED)} as well, or no --keep",
        )


def _check_searches(options: ExportOptions) -> None:
    """Raise :class:`UsageError` for a search that is asked for what it cannot do, and for its words without one."""
    if options.tune and (options.recipes or set(options.precisions) != {"fp32"}):
        raise UsageError(
            "--tune chooses among forms of the attention that are equal in fp32",
            expected="--precision fp32, and no --recipe",
        )
    if AUTO not in options.precisions:
        if options.data is not None or options.budget != Budget():
            raise UsageError("labelled data and a budget are for --precision auto", expected="--precision auto as well")
        return
    if both := set(options.precisions) & set(QUANTIZED):
        raise UsageError(
            f"auto and {min(both)} were both asked for, and auto may choose {min(both)} with other modules kept",
            expected="auto alone, or beside fp32 and fp16",
            todo=f"leave {min(both)} out: auto tries it as well and says what it is worth",
        )
    if options.budget.drop is not None and options.data is None:
        raise UsageError(
            "the budget limits how much accuracy may drop, and there is no labelled data",
            expected="--data DIR|FILE.npz",
        )


def _check_exporters(options: ExportOptions, found: Sequence[Asked]) -> None:
    """Raise :class:`UsageError` for what none of the targets asked for has a use for."""
    exporters = dict[str, Exporter]()
    for item in found:
        with contextlib.suppress(UlsamError):  # which is said in its turn
            exporters[item.target] = plugins.load(plugins.EXPORTERS, item.target)
    named = ", ".join(exporters)
    if options.device and not any(exporter.for_devices for exporter in exporters.values()):
        raise UsageError(
            f"what is made for {named} is the same for every device", expected="trt among the targets, or no --device"
        )
    if options.tune and not any(exporter.lowerings for exporter in exporters.values()):
        raise UsageError(f"there is one form of the attention only for {named}", expected="no --tune")
    for item in found:
        forms = exporters[item.target].lowerings if item.target in exporters else ()
        for geometry, name in item.recipe.lowerings:
            if name not in forms:
                raise UsageError(
                    f"{item.target} has no lowering '{name}' for blocks of {geometry}",
                    expected=", ".join(forms) or f"a recipe without lowerings for {item.target}",
                )


def check_network(road: Road, wanted: Sequence[Asked]) -> None:
    """Read what an export stands on, and nothing more: the network, one run of it, and the user's files.

    What lies in the cache was held to all this when it was made.

    Args:
        road: of the export.
        wanted: what :func:`asked` found; where none of it is possible here, nothing is read.

    Raises:
        UsageError: the network is not known, does not take its input, or a file or a name does not fit it.
        ExportError: the checkpoint is damaged.
    """
    possible: list[tuple[Asked, Exporter]] = []
    for item in wanted:
        with contextlib.suppress(UlsamError):  # which is said in its turn
            possible.append((item, exporter_for(item, road.options)))
    if not possible:
        return
    if not road.is_cached(road.key):
        _check_data(road)
    new = [
        item.recipe
        for item, exporter in possible
        if item.recipe.precision == AUTO or not road.is_cached(road.entry(exporter, item.recipe))
    ]
    searched = road.options.keep if AUTO in road.options.precisions else ()
    _check_modules(road, dict.fromkeys([*searched, *(path for recipe in new for path in recipe.keep)]))
    _check_geometries(road, [geometry for recipe in new for geometry, _ in recipe.lowerings])


def _check_data(road: Road) -> None:
    ports, options = road.signature, road.options
    road.probes  # noqa: B018 - read, with the calibration set, and kept for later
    if options.data is not None:
        data = open_labelled(options.data, ports.inputs, class_count(ports.outputs), options.preprocessing)
        next(data.batches(1), None)


def _check_modules(road: Road, paths: Iterable[str]) -> None:
    """Raise :class:`UsageError` for a path in ``paths`` at which the network has no module."""
    for path in paths:
        modules = dict(road.source.model.named_modules())
        if path.split("#")[0] not in modules:  # "#2": the second use of the same module
            near = difflib.get_close_matches(path, modules, 3)
            raise UsageError(
                f"--keep {path}: the network has no such module",
                expected=", ".join(near) or ", ".join(name for name, _ in road.source.model.named_children()),
                todo="name a module by its path in PyTorch, as named_modules() lists it",
            )


def _check_geometries(road: Road, geometries: Sequence[str]) -> None:
    """Raise :class:`UsageError` for a lowering of blocks that the network does not have."""
    if not geometries:
        return
    blocks = road.card.blocks if road.is_cached(road.key) else road.raised.blocks
    known = dict.fromkeys(block.geometry for block in blocks)
    for geometry in geometries:
        if geometry not in known:
            raise UsageError(
                f"the recipe has a lowering for blocks of {geometry}, and the network has none",
                expected=", ".join(known) or "no lowerings: there is no attention block",
            )
