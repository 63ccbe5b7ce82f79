"""The result file of ``ulsam-deploy bench``: what was timed, on what, under which conditions, and every sample.

Standard library and numpy only; device-safe. Read it with :meth:`Result.from_json`, which refuses unknown contents;
``docs/bench.schema.json`` is the schema for other programs.
"""

from __future__ import annotations

import base64
import binascii
import enum
import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from ulsam_deploy.device import codec
from ulsam_deploy.device.errors import RefusedError
from ulsam_deploy.device.findings import EngineFacts, Report, Summary, Verdict

__all__ = [
    "SCHEMA",
    "Cause",
    "Comparison",
    "Condition",
    "Disturbance",
    "Energy",
    "Machine",
    "Measured",
    "Parity",
    "Process",
    "Reading",
    "Result",
    "Settings",
    "Watch",
    "json_schema",
    "pack_samples",
    "unpack_samples",
]  # fmt: skip

SCHEMA = "ulsam-deploy.bench/5"
SCHEMA_ID = "urn:ulsam-deploy:bench:2"
#: More samples than a day with the fastest network gives; a file that declares more is refused unread.
MOST_SAMPLES = 10**8
_SHA256 = {"pattern": "[0-9a-f]{64}", "words": "a SHA-256 in 64 small hexadecimal digits"}


class Condition(str, enum.Enum):
    """The condition of a measurement: no disturbance, a disturbance, or too little information."""

    CLEAN = "clean"
    DISTURBED = "disturbed"
    UNKNOWN = "unknown"


class Cause(str, enum.Enum):
    """The cause of a disturbance."""

    TEMPERATURE = "temperature"
    CLOCK = "clock"
    THROTTLING = "throttling"
    MODE = "mode"
    LOAD = "load"


@dataclass(frozen=True)
class Disturbance:
    """Why a measurement isn't clean: one whole sentence. ``condition``: that of the measurement because of it."""

    cause: Cause
    condition: Condition
    text: str


@dataclass(frozen=True)
class Reading:
    """One sensor: just before the first sample, and right after the last one while the network still ran.

    ``kind`` is ``temperature`` (Celsius), ``clock`` (MHz) or ``power`` (W). ``limit`` is the highest clock that the
    machine allows, or the temperature from which it slows down. ``None``: couldn't be read; never replaced by 0.
    """

    sensor: str
    kind: str
    before: float | None
    after: float | None
    limit: float | None


@dataclass(frozen=True)
class Watch:
    """The state of the machine before and after a series of samples. ``reasons`` are empty if it is clean.

    ``throttled``: events of each kind meanwhile. ``other_load``: share of all cores that other programs used.
    """

    condition: Condition
    reasons: tuple[Disturbance, ...]
    readings: tuple[Reading, ...]
    throttled: Mapping[str, int | None]
    power_mode: str | None
    governors: Mapping[str, str | None]
    other_load: float | None


@dataclass(frozen=True)
class Process:
    """One fresh process that timed one artifact. ``round`` counts turns: in each, every artifact had one process.

    ``samples`` holds the ``count`` steady times in order (:func:`unpack_samples`); ``peak_rss`` is in bytes.
    """

    round: int = field(metadata={"minimum": 0})
    position: int = field(metadata={"minimum": 0})
    load_ms: float = field(metadata={"minimum": 0})
    first_ms: float = field(metadata={"minimum": 0})
    peak_rss: int | None
    count: int = field(metadata={"minimum": 1})
    samples: str
    watch: Watch

    def times(self) -> npt.NDArray[np.int64]:
        """The steady times in nanoseconds, int64 (count,); raises :class:`RefusedError` when they're damaged."""
        return unpack_samples(self.samples, self.count)


@dataclass(frozen=True)
class Energy:
    """The energy of one inference in excess of an idle machine. ``sensor`` names the sensor and what it covers."""

    sensor: str
    idle_watts: float
    busy_watts: float
    joules_per_inference: float
    seconds: float
    readings: int


@dataclass(frozen=True)
class Parity:
    """The parity check before timing: ``error`` in noise floors, ``retention`` of the block with the lowest one.

    ``None``: the error is not finite, or no block's retention is known. ``report``: each output and each block.
    """

    verdict: Verdict
    error: float | None
    retention: float | None
    report: Report | None = None


@dataclass(frozen=True)
class Measured:
    """One artifact: what it is, how it ran, and its figures over all of its processes.

    ``precision`` is the artifact's, ``engine`` the runtime's ``facts()``, including the precision it actually computes
    in. ``timed`` says what one sample contains. ``load_ms`` and ``first_ms`` are medians over processes,
    ``peak_rss`` (bytes, of the whole process) the highest. ``throughput`` is inputs a second: batch / mean latency.
    """

    target: str
    precision: str
    sha256: str = field(metadata=_SHA256)
    size: int = field(metadata={"minimum": 0})
    batch: int = field(metadata={"minimum": 1})
    timed: str
    engine: EngineFacts
    latency: Summary
    throughput: float
    load_ms: float
    first_ms: float
    peak_rss: int | None
    energy: Energy | None
    parity: Parity | None
    condition: Condition
    processes: tuple[Process, ...]

    @property
    def label(self) -> str:
        """``onnx fp32``: unique in a result."""
        return f"{self.target} {self.precision}"

    def times(self) -> tuple[npt.NDArray[np.int64], ...]:
        """Steady times in nanoseconds, one array per process, in the order in which the processes ran."""
        return tuple(process.times() for process in self.processes)


@dataclass(frozen=True)
class Comparison:
    """How many times as long ``label`` takes as ``baseline``, with its interval; ``None``: too few rounds.

    Medians, round by round: see :func:`ulsam_deploy.device.bench.intervals.paired`.
    """

    label: str
    baseline: str
    ratio: float
    low: float | None
    high: float | None
    confidence: float
    rounds: int


@dataclass(frozen=True)
class Machine:
    """The machine. Unknown facts are ``None``; ``memory`` and ``page_size`` are in bytes.

    ``device`` is the device profile that it proves to be (:mod:`ulsam_deploy.device.bench.identity`).
    """

    board: str | None
    cpu: str | None
    cores: int
    architecture: str
    system: str | None
    kernel: str
    python: str
    page_size: int
    memory: int | None
    device: str | None = None


@dataclass(frozen=True)
class Settings:
    """The options. ``min_seconds`` and ``min_count`` hold for each artifact, over all rounds together.

    ``threads`` ``None``: the engine's own choice. ``cpus``: the ones that the processes were pinned to, empty: all.
    ``batch`` ``None``: the artifact's own, 1 if that is dynamic. ``inputs`` names the source of the input arrays.
    """

    profile: str
    rounds: int
    warmup: int
    warmup_seconds: float
    min_seconds: float
    min_count: int
    threads: int | None
    batch: int | None
    cpus: tuple[int, ...]
    inputs: str


@dataclass(frozen=True)
class Result:
    """A whole result file. ``sha256`` is the checkpoint's, as in the bundle's model card.

    ``session`` is an id shared by all that was measured in turns: the rounds of two results of one session alternated.
    ``fastest`` is ``None`` if no artifact is significantly the fastest. ``probes`` identifies those of the parity check
    (:attr:`~ulsam_deploy.device.parity.Golden.digest`), empty without a golden set. ``commit``: that of
    the build that CI runs for, empty elsewhere.
    """

    model: str
    sha256: str = field(metadata=_SHA256)
    tool: str
    session: str = field(metadata={"pattern": "[0-9a-f]{16}", "words": "16 small hexadecimal digits"})
    machine: Machine
    settings: Settings
    measured: tuple[Measured, ...]
    comparisons: tuple[Comparison, ...]
    fastest: str | None
    condition: Condition
    reasons: tuple[Disturbance, ...]
    left_out: Mapping[str, str]
    probes: str = ""
    commit: str = ""
    schema: str = field(
        default=SCHEMA,
        metadata={"pattern": re.escape(SCHEMA), "words": f"{SCHEMA} (another version wants another ulsam-deploy)"},
    )

    def to_json(self) -> str:
        """The text of the file."""
        return codec.dumps(codec.encode(self, "result"))

    @classmethod
    def from_json(cls, data: bytes | str, name: str = "result") -> Result:
        """Read :meth:`to_json`'s text; raises :class:`RefusedError` naming what is unknown, missing or damaged.

        ``name`` is the name of the file in errors.
        """
        raw = data.encode("utf-8", "surrogatepass") if isinstance(data, str) else data
        plain = codec.loads(raw, name)
        _check_version(plain, name)
        result = codec.decode(cls, plain, name)
        labels = [measured.label for measured in result.measured]
        twice = next((label for label in labels if labels.count(label) > 1), None)
        if twice or not labels or not all(measured.processes for measured in result.measured):
            raise RefusedError(
                f"{name}: {twice!a} is there twice" if twice else f"{name} holds nothing that was measured",
                expected="every artifact once, each with its processes",
            )
        return result

    def of(self, label: str) -> Measured:
        """The artifact called ``label``; raises :class:`KeyError`."""
        return {measured.label: measured for measured in self.measured}[label]


def _check_version(plain: object, name: str) -> None:
    """Refuse a result of another version by name: errors about unknown or missing keys would only mislead."""
    found = plain.get("schema") if isinstance(plain, dict) else None
    if isinstance(found, str) and found != SCHEMA and re.fullmatch(r"ulsam-deploy\.bench/\d{1,6}", found):
        raise RefusedError(
            f"{name} is of another version of the format: {found}",
            expected=SCHEMA,
            todo="measure again: ulsam-deploy bench BUNDLE -o RESULT.json",
        )


def json_schema() -> dict[str, Any]:
    """The JSON Schema of a result file, published as ``docs/bench.schema.json``."""
    return codec.schema(Result, SCHEMA_ID)


def pack_samples(times: npt.NDArray[np.int64]) -> str:
    """Nanoseconds as text: base64 of zlib of little-endian int64, about 3 bytes a sample."""
    return base64.b64encode(zlib.compress(times.astype("<i8").tobytes(), 9)).decode("ascii")


def unpack_samples(text: str, count: int) -> npt.NDArray[np.int64]:
    """The inverse of :func:`pack_samples`, (count,); raises :class:`RefusedError` if there aren't ``count`` times."""
    if count > MOST_SAMPLES:
        raise RefusedError(f"{count} samples in one process", expected=f"at most {MOST_SAMPLES}")
    try:
        packed = base64.b64decode(text, validate=True)
        stream = zlib.decompressobj()
        data = stream.decompress(packed, 8 * count + 1)
        times = np.frombuffer(data, "<i8").astype(np.int64)
    except (binascii.Error, zlib.error, ValueError) as error:
        raise RefusedError(f"the samples are damaged: {error}", todo="fetch or measure the result again") from error
    if len(times) != count or not stream.eof or (times < 0).any():  # eof: the checksum was there, and right
        raise RefusedError(f"{len(times)} samples were found", expected=f"{count}, none below zero")
    return times
