"""The Python API: :func:`export`, :func:`verify` and :func:`open`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from ulsam_deploy.device import verify as evidence
from ulsam_deploy.device.arrays import Array
from ulsam_deploy.device.bundle import Bundle, read_bundle
from ulsam_deploy.device.engines import runtime_for
from ulsam_deploy.device.errors import CheckFailedError, ExportError, UnavailableError, UsageError
from ulsam_deploy.device.findings import ReplayDepth
from ulsam_deploy.device.preprocessing import Preprocessing
from ulsam_deploy.device.runtime import Runtime
from ulsam_deploy.device.types import EvidenceLevel
from ulsam_deploy.device.verification import Verification
from ulsam_deploy.exporting import conversions
from ulsam_deploy.exporting.conversions import Batch, BudgetLike, PathLike, Shapes, Words
from ulsam_deploy.exporting.options import ExportOptions, Recipe

if TYPE_CHECKING:
    from torch import nn

    from ulsam_deploy.exporting.pipeline import Exported
    from ulsam_deploy.load.checkpoint import InMemory

__all__ = ["Session", "export", "open", "verify"]


def export(
    model: PathLike | nn.Module,
    targets: Words = ("all",),
    *,
    output: PathLike | None = None,
    arch: str | None = None,
    factory: str | None = None,
    variant: str | None = None,
    inputs: Shapes = (),
    batch: Batch = 1,
    precisions: Words = ("fp32",),
    calibration: PathLike | None = None,
    keep: Words = (),
    recipes: Mapping[str, Recipe] | PathLike | None = None,
    budget: BudgetLike | None = None,
    data: PathLike | None = None,
    tune: bool = False,
    preprocessing: Preprocessing | PathLike | None = None,
    probes: PathLike | None = None,
    device: str = "",
    dla: bool = False,
    require: EvidenceLevel | str = EvidenceLevel.EXPORTED,
    replay: ReplayDepth | str = ReplayDepth.FAST,
    watch: Words = ("auto",),
    weights: str | None = None,
    trust_pickle: bool = False,
    allow_globals: Words = (),
    cache: bool = True,
) -> Bundle:
    """Export a network to verified artifacts in one bundle.

    The options are those of ``ulsam-deploy export``. A *check* that fails does not raise: read
    :attr:`~ulsam_deploy.Bundle.passed` of the returned bundle, or call its ``raise_if_failed()``.

    A module in memory has no file, so it is identified by its weights: the manifest names it after its class, and
    ``sha256`` covers the names, shapes and values of its ``state_dict`` in float32. That hash does not cover the
    module's code, so such an export is never cached. The module itself is not changed: a copy is exported, in ``eval``
    mode, on the CPU and in float32.

    Args:
        model: A checkpoint, an ONNX model, or the ``nn.Module`` itself, which needs ``inputs``.
        targets: ``"onnx"``, ``"openvino"``, ``"tflite"``, ``"trt"``, ``"ncnn"``, several of them, or
            ``"all"`` installed ones.
        output: The bundle's folder; by default the model's name with ``.bundle``, next to the model, or in the working
            directory for a module.
        arch: A network or a named configuration; by default recognized from the checkpoint's keys.
        factory: ``"PKG.MODULE:FACTORY"``, the code of your own network. It is executed.
        variant: The published form of the ULSAM module, which cannot be recognized from the checkpoint's keys.
        inputs: A shape without the batch, ``(3, 224, 224)`` or ``"3x224x224"``, or one for each input; by default the
            shapes that the checkpoint or its network states.
        batch: A number; ``"dynamic"`` or ``None`` for a dynamic batch.
        precisions: ``"fp32"``, ``"fp16"``, ``"bf16"``, ``"int8"``, ``"int8-dynamic"`` or ``"auto"``, or several: one
            artifact each.
        calibration: Real inputs that int8 takes its ranges from, ``.npz`` or a folder.
        keep: Module paths that int8 leaves in floating point.
        recipes: How each target is made, instead of ``precisions`` and ``keep``: a mapping by target, or the path of a
            ``recipe.toml``.
        budget: What artifacts may lose on real inputs, such as ``{"agreement": 0.95, "deviation": 0.4}``, and for
            ``"auto"`` more limits, such as ``{"drop": 0.3, "size": "40%"}``.
        data: Labelled samples on which ``"auto"`` measures accuracy.
        tune: Time the equivalent forms of each attention block on this machine, and use the fastest.
        preprocessing: How pictures become inputs: ``"imagenet"``, ``"unit"``, ``"unit-grey"``, or a TOML file.
        probes: Your own inputs, checked in addition to the built-in probes.
        device: A device profile, such as ``"jetson-orin-jp6"``.
        dla: Export for that device's deep learning accelerator.
        require: The lowest evidence level that counts as success, such as ``"executed"``.
        replay: On how many batches every module is checked by itself inside each artifact: ``"off"``, ``"fast"`` (the
            worst one) or ``"full"`` (all).
        watch: Attention gates whose retention is measured besides ULSAM's: ``"auto"``, those that move the outputs
            most; ``"all"``; ``"none"``; or module paths.
        weights: The key of the checkpoint's weights, if it has several: ``"ema"``, ``"generator"``.
        trust_pickle: Allow the checkpoint's pickle to run any code.
        allow_globals: Globals, as ``module.name``, that the checkpoint's pickle may use.
        cache: Reuse cached results, and add new ones to the cache.

    Returns:
        The bundle that was written.

    Raises:
        UsageError: An option is invalid.
        UnavailableError: A requested target, or the evidence level in ``require``, is not available here.
        ExportError: A requested target, or the network itself, could not be exported.
        CheckFailedError: No trial of ``"auto"`` is within the budget.
        RefusedError: Reading the checkpoint would run code.
    """
    from ulsam_deploy.device.progress import Progress
    from ulsam_deploy.exporting.pipeline import export as run

    given = _in_memory(model)
    options = ExportOptions(
        model=Path(given.name) if given else conversions.path(model, "model"),
        targets=conversions.words(targets, "targets"),
        output=conversions.optional_path(output, "output"),
        arch=arch,
        factory=factory,
        variant=variant,
        inputs=conversions.shapes(inputs),
        batch=conversions.batch(batch),
        precisions=conversions.words(precisions, "precisions"),
        calibration=conversions.optional_path(calibration, "calibration"),
        keep=conversions.names(keep, "keep"),
        recipes=conversions.recipes(recipes),
        budget=conversions.budget(budget),
        data=conversions.optional_path(data, "data"),
        tune=tune,
        preprocessing=conversions.preprocessing(preprocessing),
        probes=conversions.optional_path(probes, "probes"),
        device=device,
        dla=dla,
        require=conversions.level(require),
        replay=conversions.depth(replay),
        watch=conversions.words(watch, "watch"),
        weights=weights,
        trust_pickle=trust_pickle,
        allow_globals=conversions.words(allow_globals, "allow_globals"),
        cache=cache,
    )
    return _written(run(options, Progress(quiet=True), given), options)


def _in_memory(model: PathLike | nn.Module) -> InMemory | None:
    """The module, prepared for export; ``None`` for a path."""
    import sys

    # A module can only exist where torch was imported already; a path must not cost that import.
    if "torch" not in sys.modules:
        return None
    from torch import nn

    if not isinstance(model, nn.Module):
        return None
    from ulsam_deploy.load import checkpoint

    return checkpoint.from_module(model)


def _written(result: Exported, options: ExportOptions) -> Bundle:
    """The bundle of ``result``; raises the error of any requested artifact that could not be made."""
    for outcome in result.outcomes:
        if outcome.error and outcome.required:
            raise outcome.error
    if result.bundle is None:
        raise ExportError("no target could be made", todo="run 'ulsam-deploy doctor'")
    for outcome in result.outcomes:
        what = f"{outcome.target} {outcome.precision} in {options.bundle}"
        if outcome.built and outcome.built.evidence.level < options.require:
            reached = outcome.built.evidence
            why = " ".join(reason.text for reason in reached.reasons) or "nothing more is possible here"
            raise UnavailableError(
                f"{what} reached '{reached.level.label}': {why}",
                expected=f"'{options.require.label}', as require asks",
            )
        if outcome.found and not outcome.found.met:
            raise CheckFailedError(f"{what}: {outcome.found.sentence}", expected="an artifact within the budget")
    return result.bundle


def verify(bundle: Bundle | PathLike, targets: Words = (), device: str = "") -> Verification:
    """Check a bundle's integrity, then run every artifact that can run here.

    Args:
        bundle: What :func:`export` returned, or the path of a bundle, a folder or a ``.zip``.
        targets: Check only these; one that no engine here can run then counts against the result.
        device: A board, such as ``"rpi4"``, whose processor model is emulated.

    Returns:
        The results, a sequence with one entry for each artifact, with a property ``passed``.

    Raises:
        UsageError: There is no such bundle, target or device.
        UnavailableError: Emulation is not available here.
        RefusedError: A byte of the bundle is not as recorded; nothing was opened.
    """
    opened, wanted = _opened(bundle), conversions.words(targets, "targets")
    if device:
        from ulsam_deploy.boards import emulate

        checked = emulate.verify_bundle(opened, device, wanted)
    else:
        checked = evidence.verify_bundle(opened, wanted)
    return Verification(opened.root, tuple(checked), wanted)


class Session:
    """An artifact ready to run; a context manager."""

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime

    def __enter__(self) -> Session:
        self.runtime.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.runtime.__exit__(kind, error, trace)

    def run(self, *inputs: Array) -> Array | tuple[Array, ...]:
        """Run one batch in PyTorch's layout: images NCHW, float32.

        Args:
            inputs: One array for each network input, in the network's order.

        Returns:
            The output array, or a tuple where the network has several outputs.

        Raises:
            UsageError: The number of inputs, a shape or a dtype is wrong.
        """
        specs = self.runtime.inputs
        if len(inputs) != len(specs):
            raise UsageError(f"{len(inputs)} inputs were given", expected=", ".join(spec.name for spec in specs))
        results = tuple(self.runtime.run({spec.name: array for spec, array in zip(specs, inputs)}).values())
        return results[0] if len(results) == 1 else results


def open(bundle: Bundle | PathLike, target: str, *, threads: int | None = None, provider: str = "") -> Session:
    """Open the artifact of ``target`` after checking the integrity of its bundle.

    Args:
        bundle: What :func:`export` returned, or the path of a bundle.
        target: One of its targets, such as ``"onnx"``.
        threads: How many threads the engine may use; by default the engine decides.
        provider: What ONNX Runtime runs on: ``"cpu"`` (the default), ``"cuda"`` or ``"tensorrt"``.

    Returns:
        A session, to be entered with ``with``.

    Raises:
        UsageError: There is no such bundle, target or provider.
        UnavailableError: No engine here runs it, or (when it is entered) not on that provider.
        RefusedError: A byte of the bundle is not as recorded; nothing was opened.
    """
    opened = _opened(bundle)
    opened.verify_integrity()
    record = opened.artifact(target)
    engine = runtime_for(record.target)
    files = opened.files(record)
    return Session(engine(files, record.inputs, record.outputs, threads=threads, provider=provider))


def _opened(bundle: Bundle | PathLike) -> Bundle:
    return bundle if isinstance(bundle, Bundle) else read_bundle(conversions.path(bundle, "bundle"))
