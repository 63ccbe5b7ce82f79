"""The artifacts that an export is requested to make, and the checks that no option contradicts another.

Every option that the user gives is used or refused: here, from the options alone, and in
:mod:`ulsam_deploy.exporting.validation`, from the network and the user's files.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass

from ulsam_deploy.device import plugins
from ulsam_deploy.device.bundle import check_writable
from ulsam_deploy.device.errors import UlsamError, UnavailableError, UsageError
from ulsam_deploy.device.findings import AgreementBudget
from ulsam_deploy.device.invocation import command
from ulsam_deploy.device.precisions import AUTO, CALIBRATED, NO_CALIBRATION, QUANTIZED
from ulsam_deploy.device.profiles import check_dla, device
from ulsam_deploy.device.targets import ALL, check_targets, parse_targets
from ulsam_deploy.device.types import EvidenceLevel
from ulsam_deploy.exporting.options import REACHABLE, ExportOptions, Recipe
from ulsam_deploy.graph.interfaces import Exporter
from ulsam_deploy.load.source import check_readable

__all__ = ["ArtifactRequest", "requested"]


@dataclass(frozen=True)
class ArtifactRequest:
    """One requested artifact; ``required``: its target was requested by name."""

    target: str
    recipe: Recipe
    required: bool

    def is_required(self, error: UlsamError) -> bool:
        """Whether ``error`` affects the exit code: with "all", a target that is not available is skipped."""
        return self.required or not isinstance(error, UnavailableError)


def requested(options: ExportOptions, *, is_file: bool = True) -> list[ArtifactRequest]:
    """List what to make, in the requested order.

    Args:
        options: The options of the export.
        is_file: Whether the model is a file, and not a network in memory.

    Returns:
        An item for each target and precision; those of a target that was named are required.

    Raises:
        UsageError: An option contradicts another one, or has no meaning beside it.
        UnavailableError: The device does not have the requested accelerator.
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
        found = [ArtifactRequest(name, options.recipes[name], True) for name in chosen]
    else:
        found = [
            ArtifactRequest(
                target, Recipe(precision, options.keep if precision in QUANTIZED else ()), target in targets
            )
            for target in ([name for name in known if name in targets or _is_of_all(name)] if every else targets)
            for precision in sorted(dict.fromkeys(options.precisions), key=AUTO.__ne__)
        ]
    _check_exporters(options, found)
    return found


def _is_of_all(name: str) -> bool:
    """Whether "all" includes the target ``name``: an optional one only where it is installed."""
    try:
        exporter: Exporter = plugins.load(plugins.EXPORTERS, name)
    except UlsamError:  # reported later, for the artifact itself
        return True
    return not exporter.optional or exporter.available().usable


def _check_required(options: ExportOptions) -> None:
    """Raise :class:`UsageError` for an evidence level that no export reaches, as it uses no emulator or device."""
    if options.require > REACHABLE[-1]:
        how = (
            ["--device", "NAME"] if options.require is EvidenceLevel.EMULATED_ON_DEVICE_CPU else ["--host", "USER@NAME"]
        )
        raise UsageError(
            f"an export never reaches '{options.require.label}'",
            expected="one of " + ", ".join(level.label for level in REACHABLE),
            todo=f"export, then: {command('verify', options.bundle, *how, '--require', options.require.label)}",
        )


def _check_quantization(options: ExportOptions) -> None:
    """Raise :class:`UsageError` for int8 without real inputs, and for options of int8 without int8."""
    if options.recipes and (options.keep or options.precisions != ("fp32",)):
        raise UsageError("recipes and precisions both say how artifacts are made", expected="one of the two")
    calibrated = set(options.judged) & set(CALIBRATED)
    if calibrated and options.calibration is None:
        raise UsageError("int8 needs real inputs to take ranges from", expected="--calibration", todo=NO_CALIBRATION)
    if options.calibration is not None and not calibrated and not options.recipes:  # recipes may need ranges or not
        raise UsageError(
            f"the calibration set is for int8, and {' and '.join(options.judged)} was requested",
            expected="--precision int8 (or auto) as well, or no --calibration",
        )
    if options.keep and not set(options.judged) & set(QUANTIZED):
        raise UsageError(
            f"--keep leaves modules in floating point, and so does {' and '.join(options.judged)} with all of them",
            expected=f"--precision {' or '.join(QUANTIZED)} as well, or no --keep",
        )


def _check_searches(options: ExportOptions) -> None:
    """Raise :class:`UsageError` for a search that is impossible, and for options of a search without one."""
    if options.tune and (options.recipes or set(options.precisions) != {"fp32"}):
        raise UsageError(
            "--tune chooses among forms of the attention that are equal in fp32",
            expected="--precision fp32, and no --recipe",
        )
    if options.budget.agreed != AgreementBudget() and options.calibration is None and options.probes is None:
        raise UsageError(
            "a budget limits agreement with PyTorch, which is judged on real inputs, and none are given",
            expected="--calibration or --probes as well",
        )
    if AUTO not in options.precisions:
        if options.data is not None or options.budget.is_for_search:
            raise UsageError(
                "labelled data, and limits on anything but agreement and deviation, are for --precision auto",
                expected="--precision auto as well",
            )
        return
    if both := set(options.precisions) & set(QUANTIZED):
        raise UsageError(
            f"auto and {min(both)} were both requested, and auto may choose {min(both)} with other modules kept",
            expected="auto alone, or beside fp32 and fp16",
            todo=f"leave {min(both)} out: auto tries it as well and reports the result",
        )
    if options.budget.drop is not None and options.data is None:
        raise UsageError(
            "the budget limits how much accuracy may drop, and there is no labelled data",
            expected="--data DIR|FILE.npz",
        )


def _check_exporters(options: ExportOptions, found: Sequence[ArtifactRequest]) -> None:
    """Raise :class:`UsageError` for options that none of the requested targets can use."""
    exporters = dict[str, Exporter]()
    for item in found:
        with contextlib.suppress(UlsamError):  # reported later, for the artifact itself
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
