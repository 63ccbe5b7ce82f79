"""Does the work of one cell; a cell that is done already is not done again.

A result is written last, after its bundle, so a worker that dies leaves no result. Every start leaves a mark, so that
the table can show how often a cell was started.
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
from dataclasses import dataclass, field, replace

from ulsam_deploy.boards.emulate import verify_bundle
from ulsam_deploy.device import cache, codec, plugins
from ulsam_deploy.device.accuracy import Accuracy
from ulsam_deploy.device.bench.measure import peak_rss
from ulsam_deploy.device.bundle import Bundle, Evidence, pack
from ulsam_deploy.device.commands.labelled import accuracies, first_float
from ulsam_deploy.device.elsewhere.limits import Limits
from ulsam_deploy.device.ending import in_words
from ulsam_deploy.device.errors import Exit, ExportError, RefusedError, UlsamError, UnavailableError
from ulsam_deploy.device.files import scratch
from ulsam_deploy.device.findings import Verdict
from ulsam_deploy.device.hashing import digest_of
from ulsam_deploy.device.profiles import device
from ulsam_deploy.device.progress import Progress
from ulsam_deploy.device.types import EvidenceLevel
from ulsam_deploy.device.verify import Checked, verdict_code
from ulsam_deploy.exporting.pipeline import export
from ulsam_deploy.graph.interfaces import Exporter
from ulsam_deploy.load.source import file_digest
from ulsam_deploy.sweep.plan import Cell
from ulsam_deploy.sweep.store import Store, fetched

RESULT, BUNDLE, DEFECT = "result.json", "bundle.zip", "defect.txt"
#: The exit codes of a cell that is done for good; others may be due to the machine, and the cell is tried again.
SETTLED = (Exit.OK, Exit.CHECK_FAILED, Exit.INCONCLUSIVE)
#: One cell at a time in a process: converters write to stdout's descriptor, and the memory limit is for one task.
_ONE = threading.Lock()


@dataclass(frozen=True)
class CellFacts:
    """The part of a result that is the same wherever the cell is made.

    Attributes:
        checkpoint: The checkpoint's name.
        sha256: SHA-256 of the checkpoint.
        target: The target.
        precision: The precision.
        input: The input's shape as written in the sweep's file.
        device: The device profile; empty for none.
        exit_code: The exit code of this cell alone.
        level: The evidence level.
        verdict: The verdict.
        reasons: Sentences that a reader must know in addition.
        blocks: The number of fused attention blocks.
        refused: The number of look-alikes that were left unchanged.
        files: SHA-256 of each file of the artifact, by its name.
        bytes: The size of these files together.
    """

    checkpoint: str
    sha256: str
    target: str
    precision: str
    input: str
    device: str
    exit_code: int
    reasons: tuple[str, ...] = ()
    level: EvidenceLevel = EvidenceLevel.EXPORTED
    verdict: Verdict = Verdict.UNVERIFIED
    blocks: int = 0
    refused: int = 0
    files: Mapping[str, str] = field(default_factory=dict)
    bytes: int = 0


@dataclass(frozen=True)
class CellRun:
    """The part of a result that belongs to one run.

    ``peak`` is in bytes, ``error`` the largest in noise floors, ``retention`` the smallest of any block, ``p50`` in ms,
    and ``accuracy`` is on the sweep's labelled data.
    """

    worker: str
    seconds: float
    peak: int | None
    error: float | None = None
    retention: float | None = None
    p50: float | None = None
    accuracy: Accuracy | None = None


@dataclass(frozen=True)
class CellResult:
    """The result of a cell."""

    key: str
    found: CellFacts
    run: CellRun

    @property
    def code(self) -> Exit:
        """What the cell contributes to the exit code."""
        return Exit(self.found.exit_code)


def result_of(store: Store, key: str) -> CellResult | None:
    """The result under ``key`` if the cell is done; raises :class:`RefusedError` if the file is not a result."""
    data = store.read(f"cells/{key}/{RESULT}")
    return None if data is None else codec.decode(CellResult, codec.loads(data, RESULT), RESULT)


@dataclass(frozen=True)
class CellTask:
    """A cell to do, with its bundle below ``output``."""

    cell: Cell
    output: str


def do_cell(task: CellTask) -> CellResult:
    """Export, check and store one cell, unless it is done already.

    Never raises an error for a problem of this cell: it is in the result, and the other cells continue.
    """
    cell, output = task.cell, task.output
    with _ONE:
        started = time.perf_counter()
        try:
            store = Store(output)
            if done := result_of(store, cell.key):
                return done
            _mark(store, cell.key)
            result = _made(cell, store, started)
        except Exception as error:  # a defect of ours or of a tool must not end the other cells, and must be reported
            if told := in_words(error):
                return _without(cell, started, told.exit_code, str(told) if told.todo else told.found)
            return _without(cell, started, Exit.DEFECT, _defect(cell, output, error))
        if result.code in SETTLED:
            text = codec.dumps(codec.encode(result, RESULT))
            store.write(f"cells/{cell.key}/{RESULT}", text.encode())
        return result


def _defect(cell: Cell, output: str, error: Exception) -> str:
    """One sentence about an unforeseen error; its traceback is stored beside the cell's results."""
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
        _check_same(cell.checkpoint, file_digest(options), cell.sha256)
        (outcome,) = (exported := export(options, Progress(quiet=True))).outcomes
        if exported.bundle is None or outcome.built is None:
            raise outcome.error or ExportError("nothing was made")
        evidence = outcome.built.evidence
        checked = _on_board(exported.bundle, cell) if _emulated(cell.options.device) else evidence
        archive = pack(exported.bundle, folder / BUNDLE)
        store.write(f"cells/{cell.key}/{BUNDLE}", archive.read_bytes())
        right = _accuracy(exported.bundle, cell, evidence)
        return _described(cell, started, exported.bundle, checked, evidence, right)


def _check_same(place: str, seen: str, planned: str) -> None:
    if seen != planned:
        raise RefusedError(f"'{place}' is not the file that the plan was made for", expected=planned, todo=seen)


def _made_for(cell: Cell) -> str:
    """The device profile for the export; empty if the target is the same for all devices and is only emulated."""
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


def _accuracy(bundle: Bundle, cell: Cell, here: Evidence) -> Accuracy | None:
    """The artifact's accuracy on the sweep's labelled data, in the engine of this machine."""
    if not cell.labelled or here.level < EvidenceLevel.EXECUTED:
        return None
    (record,) = bundle.manifest.artifacts
    with fetched(cell.labelled) as data:
        _check_same(cell.labelled, digest_of(data), cell.labelled_sha256)
        (checked,), found = accuracies(bundle, [Checked(record, here)], data, first_float, Limits())
    if checked.error:
        raise checked.error
    return found[record.target, record.precision]


def _described(
    cell: Cell, started: float, bundle: Bundle, evidence: Evidence, here: Evidence, right: Accuracy | None
) -> CellResult:
    """The result by ``evidence``; the latency is from ``here``, because an emulator's time means nothing."""
    (record,) = bundle.manifest.artifacts
    parity = evidence.parity
    facts = replace(
        _facts(cell, verdict_code(evidence)),
        level=evidence.level,
        verdict=evidence.verdict,
        reasons=tuple(reason.text for reason in evidence.reasons),
        blocks=len(bundle.manifest.model.blocks),
        refused=len(bundle.manifest.model.refusals),
        files={posixpath.basename(file.path): file.sha256 for file in record.files},
        bytes=sum(file.size for file in record.files),
    )
    run = replace(
        _run(started),
        error=parity.finite_error if parity else None,
        retention=min(parity.retentions, default=None) if parity else None,
        p50=here.latency.p50 if here.latency and evidence is here else None,
        accuracy=right,
    )
    return CellResult(cell.key, facts, run)


def _without(cell: Cell, started: float, code: Exit, reason: str) -> CellResult:
    """The result of a cell without an artifact."""
    return CellResult(cell.key, replace(_facts(cell, code), reasons=(reason,)), _run(started))


def _facts(cell: Cell, code: Exit) -> CellFacts:
    who = (cell.options.model.name, cell.sha256, cell.target, cell.precision, cell.size, cell.options.device)
    return CellFacts(*who, exit_code=int(code))


def _run(started: float) -> CellRun:
    return CellRun(_worker(), round(time.perf_counter() - started, 3), peak_rss())


def lost(cell: Cell, error: BaseException) -> CellResult:
    """The result of a cell whose workers died, or whose cluster was lost; ``error`` has the message."""
    reason = str(error) if isinstance(error, UlsamError) else f"{type(error).__name__}: {error}"
    result = _without(cell, time.perf_counter(), Exit.EXPORT_FAILED, reason)
    return replace(result, run=replace(result.run, worker="-"))
