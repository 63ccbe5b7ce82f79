"""What a worker does for one cell, or for one shard of the labelled set. Whoever runs it again finds it done.

A result is written last, after the bundle that it is about, so a worker that dies leaves no result. Every start leaves
a mark, so that it can be told afterwards what was begun how often.
"""

from __future__ import annotations

import functools
import os
import platform
import posixpath
import threading
import time
import traceback
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ulsam_deploy.boards.emulate import verify_bundle
from ulsam_deploy.device import cache, codec, plugins
from ulsam_deploy.device.arrays import Array
from ulsam_deploy.device.bench import peak_rss
from ulsam_deploy.device.bundle import Bundle, Evidence, pack, read_bundle
from ulsam_deploy.device.errors import Exit, ExportError, RefusedError, UlsamError, UnavailableError, UsageError
from ulsam_deploy.device.files import scratch
from ulsam_deploy.device.findings import Verdict
from ulsam_deploy.device.npz import UnsoundArraysError, read_arrays
from ulsam_deploy.device.profiles import device
from ulsam_deploy.device.progress import Progress
from ulsam_deploy.device.shapes import shape_text
from ulsam_deploy.device.types import TensorSpec, Tier
from ulsam_deploy.device.verify import produce, runtime_for, verdict_code
from ulsam_deploy.exporting.pipeline import export
from ulsam_deploy.graph.interfaces import Exporter
from ulsam_deploy.load.source import file_digest
from ulsam_deploy.sweep.accuracy import HitCounts, count
from ulsam_deploy.sweep.plan import Cell, Shard
from ulsam_deploy.sweep.store import Store, fetched

RESULT, BUNDLE, LABELS, DEFECT = "result.json", "bundle.zip", "labels", "defect.txt"
#: Codes under which a cell is done for good; the others may have had to do with the machine, and are tried again.
SETTLED = (Exit.OK, Exit.CHECK_FAILED, Exit.INCONCLUSIVE)
#: One at a time in a process: converters write to stdout's descriptor, and memory is stated for one task.
_ONE = threading.Lock()


@dataclass(frozen=True)
class CellResult:
    """What became of a cell. ``found`` is the same wherever it is made; ``run`` is about this once, and is not.

    ``found``: who (checkpoint, sha256, target, ...), ``exit_code``, ``tier``, ``verdict``, ``reasons``, ``blocks``
    (how many are raised), ``files`` (SHA-256 by name) and ``bytes``. ``run``: ``worker``, ``seconds``, ``peak``
    (bytes), ``error`` (the largest in noise floors), ``liveness`` (the smallest) and ``p50`` (ms).
    """

    key: str
    found: Mapping[str, Any]
    run: Mapping[str, Any]

    @property
    def code(self) -> Exit:
        """What it contributes to the exit code."""
        return Exit(self.found["exit_code"])


def result_of(store: Store, key: str) -> CellResult | None:
    """The result under ``key``, where the cell is done; raises :class:`RefusedError` for one that is no result."""
    data = store.read(f"cells/{key}/{RESULT}")
    return None if data is None else codec.decode(CellResult, codec.loads(data, RESULT), RESULT)


def do_cell(cell: Cell, output: str) -> CellResult:
    """Export, check and keep one cell below ``output``; what is done already is found, and not done again.

    Never raises for what is wrong with this cell: that is in the result, and the others go on.
    """
    with _ONE:
        started = time.perf_counter()
        try:
            store = Store(output)
            if done := result_of(store, cell.key):
                return done
            _mark(store, cell.key)
            result = _made(cell, store, started)
        except UlsamError as error:
            reason = str(error) if error.todo else error.found
            return _result(cell, started, exit_code=int(error.exit_code), reasons=[reason])
        except Exception as error:  # a defect of ours or of a tool: it must not end the other cells, and must be seen
            return _result(cell, started, exit_code=int(Exit.DEFECT), reasons=[_defect(cell, output, error)])
        if result.code in SETTLED:
            text = codec.dumps(codec.encode(result, RESULT))
            store.write(f"cells/{cell.key}/{RESULT}", text.encode())
        return result


def _defect(cell: Cell, output: str, error: Exception) -> str:
    """One sentence about what nobody foresaw; its traceback lies beside the cell's results."""
    what = f"{type(error).__name__}: {str(error).partition(chr(10))[0]:.200}"
    said = f"this cell ended in a defect of ulsam-deploy ({what})"
    place = f"cells/{cell.key}/{DEFECT}"
    try:
        Store(output).write(place, "".join(traceback.format_exception(error)).encode(errors="backslashreplace"))
    except Exception as unwritten:
        return f"{said}; its traceback could not be kept: {unwritten!r:.200}"
    return f"{said}; please report it with its traceback, which is in {posixpath.join(output, place)}"


def _mark(store: Store, key: str) -> None:
    store.write(f"cells/{key}/attempts/{_worker()}-{time.time_ns()}", b"")


def _worker() -> str:
    return f"{platform.node() or 'host'}-{os.getpid()}"


def _made(cell: Cell, store: Store, started: float) -> CellResult:
    if cell.code != _own_code():
        raise UnavailableError(
            "this worker has another version of ulsam-deploy than the one that made the plan",
            expected="the same code everywhere, for results are kept under its hash",
            todo="install the same version on the workers",
        )
    with fetched(cell.checkpoint) as model, scratch() as folder:
        options = replace(cell.options, model=model, output=folder / "cell.bundle", device=_made_for(cell))
        if (seen := file_digest(options)) != cell.sha256:
            raise RefusedError(
                f"'{cell.checkpoint}' is not the file that the plan was made for", expected=cell.sha256, todo=seen
            )
        (outcome,) = (exported := export(options, Progress(quiet=True))).outcomes
        if exported.bundle is None or outcome.built is None:
            raise outcome.error or ExportError("nothing was made")
        evidence = outcome.built.evidence
        checked = _on_board(exported.bundle, cell) if _emulated(cell.options.device) else evidence
        archive = pack(exported.bundle, folder / BUNDLE)
        store.write(f"cells/{cell.key}/{BUNDLE}", archive.read_bytes())
        return _described(cell, started, exported.bundle, checked, evidence)


def _made_for(cell: Cell) -> str:
    """The device profile that the export is told: none where the target is the same for all, and is emulated only."""
    exporter: Exporter = plugins.load(plugins.EXPORTERS, cell.target)
    return cell.options.device if exporter.for_devices else ""


@functools.cache
def _own_code() -> str:
    return cache.source_digest()


def _emulated(name: str) -> bool:
    return bool(name) and device(name).arm is not None


def _on_board(bundle: Bundle, cell: Cell) -> Evidence:
    """The evidence from the emulated board."""
    (checked,) = verify_bundle(bundle, cell.options.device, (cell.target,))
    if checked.evidence is None:
        raise checked.error or UnavailableError(f"nothing ran on {cell.options.device}")
    return checked.evidence


def _described(cell: Cell, started: float, bundle: Bundle, evidence: Evidence, here: Evidence) -> CellResult:
    """``evidence`` decides; the time of a run is from ``here``, for an emulator's time means nothing."""
    (record,) = bundle.manifest.artifacts
    parity = evidence.parity
    return _result(
        cell,
        started,
        {
            "error": parity.finite_error if parity else None,
            "liveness": min(parity.livenesses, default=None) if parity else None,
            "p50": here.latency.p50 if here.latency and evidence is here else None,
        },
        exit_code=int(verdict_code(evidence)),
        tier=evidence.tier.label,
        verdict=evidence.verdict.value,
        reasons=[reason.text for reason in evidence.reasons],
        blocks=len(bundle.manifest.model.blocks),
        refused=len(bundle.manifest.model.refusals),
        files={posixpath.basename(file.path): file.sha256 for file in record.files},
        bytes=sum(file.size for file in record.files),
    )


def _result(cell: Cell, started: float, seen: Mapping[str, object] | None = None, **found: object) -> CellResult:
    nothing = {"tier": Tier.EXPORTED.label, "verdict": Verdict.UNVERIFIED.value, "blocks": 0, "refused": 0}
    who = {
        "checkpoint": cell.options.model.name,
        "sha256": cell.sha256,
        "target": cell.target,
        "precision": cell.precision,
        "input": cell.size,
        "device": cell.options.device,
    }
    seconds = round(time.perf_counter() - started, 3)
    run = {"worker": _worker(), "seconds": seconds, "peak": peak_rss(), "error": None, "liveness": None, "p50": None}
    return CellResult(cell.key, {**who, **nothing, "files": {}, "bytes": 0, **found}, {**run, **(seen or {})})


def lost(cell: Cell, error: BaseException) -> CellResult:
    """What is said of a cell whose workers died, or whose executor was lost; ``error`` has the executor's words."""
    reason = str(error) if isinstance(error, UlsamError) else f"{type(error).__name__}: {error}"
    result = _result(cell, time.perf_counter(), exit_code=int(Exit.EXPORT_FAILED), reasons=[reason])
    return replace(result, run={**result.run, "worker": "-"})


def do_shard(key: str, shard: Shard, output: str) -> HitCounts:
    """Run the artifact under ``key`` on one shard of the labelled set; found where it is done already.

    Raises :class:`UlsamError` in words for a shard that does not fit the artifact, and without the engine.
    """
    with _ONE:
        store, name = Store(output), f"cells/{key}/accuracy/{shard.sha256}.json"
        if data := store.read(name):
            return codec.decode(HitCounts, codec.loads(data, name), name)
        packed = store.read(f"cells/{key}/{BUNDLE}")
        if packed is None:
            raise UsageError(f"the cell {key} has no bundle in '{output}'", expected="a cell that was made")
        with scratch() as folder, fetched(shard.place) as path:
            (archive := folder / BUNDLE).write_bytes(packed)
            counts = _counted(read_bundle(archive), path)
        store.write(name, codec.dumps(codec.encode(counts, name)).encode())
        return counts


def _counted(bundle: Bundle, path: Path) -> HitCounts:
    (record,) = bundle.manifest.artifacts
    scores = next((spec.name for spec in record.outputs if len(spec.shape) == 2), None)
    if scores is None:
        raise UsageError("the network has no output of one score for each class", expected="a classifier")
    inputs, labels = read_shard(path, record.inputs)
    padded = {name: _whole(array, record.inputs[0].shape[0] or 1) for name, array in inputs.items()}
    with runtime_for(record.target)(bundle.files(record), record.inputs, record.outputs) as runtime:
        found = produce(runtime, padded)[scores][: len(labels)]
    if labels.size and not 0 <= labels.min() <= labels.max() < found.shape[1]:
        raise UsageError(f"'{path.name}' has labels from {labels.min()} to {labels.max()}",
                         expected=f"0 to {found.shape[1] - 1}, the network's classes")  # fmt: skip
    return count(found, labels)


def _whole(array: Array, batch: int) -> Array:
    """``array`` filled up to whole batches with its last sample."""
    missing = -len(array) % batch
    return np.concatenate([array, np.repeat(array[-1:], missing, axis=0)]) if missing else array


def read_shard(path: Path, inputs: tuple[TensorSpec, ...]) -> tuple[dict[str, Array], Any]:
    """The arrays of one shard by input, float32 (B, ...), and its labels (B,); raises :class:`UsageError`."""
    try:
        arrays = read_arrays(path, own=True)
    except UnsoundArraysError as error:
        raise UsageError(f"the shard '{path.name}' cannot be read: {error}", expected="an .npz of arrays") from error
    labels = arrays.pop(LABELS, None)
    if labels is None or labels.ndim != 1 or labels.dtype.kind not in "iu":
        raise UsageError(f"the shard '{path.name}' has no '{LABELS}'", expected=f"whole numbers (B,) called '{LABELS}'")
    if len(inputs) == len(arrays) == 1:  # one input: its array may have any name
        arrays = {inputs[0].name: next(iter(arrays.values()))}
    for spec in inputs:
        array, wanted = arrays.get(spec.name), spec.shape[1:]
        if array is None or array.shape != (len(labels), *wanted) or array.dtype != np.float32:
            said = "none" if array is None else f"{array.dtype} {shape_text(array.shape)}"
            raise UsageError(
                f"the shard '{path.name}' has {said} for the input '{spec.name}'",
                expected=f"float32 {shape_text((len(labels), *wanted))}",
            )
    return {spec.name: arrays[spec.name] for spec in inputs}, labels
