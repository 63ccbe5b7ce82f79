"""The near end of a fresh process that times one artifact: starts it, talks with it in lines, and ends it.

Standard library and numpy only; device-safe. The far end is :mod:`ulsam_deploy.device.bench.worker`.
"""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import io
import json
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from ulsam_deploy.device import codec
from ulsam_deploy.device.arrays import Array
from ulsam_deploy.device.bench.result import Parity
from ulsam_deploy.device.errors import ExportError, UlsamError
from ulsam_deploy.device.findings import EngineFacts
from ulsam_deploy.device.invocation import command
from ulsam_deploy.device.npz import write_arrays
from ulsam_deploy.device.types import TensorSpec

__all__ = ["FreshProcess", "Subject"]

#: The worker finds the modules where this process found them, be it a folder or the one file of the runner.
_WORKER = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); from ulsam_deploy.device.bench.worker import main; main()"
)


@dataclass(frozen=True)
class Subject:
    """One artifact to time. ``model`` tells bundles apart; ``runtime`` is an entry point; ``feed`` one batch by input.

    ``size`` is in bytes, of all ``files`` together; ``sha256`` is over their digests.
    """

    model: str
    target: str
    precision: str
    runtime: str
    files: tuple[Path, ...]
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    feed: Mapping[str, Array]
    sha256: str
    size: int
    parity: Parity | None = None

    @property
    def label(self) -> str:
        """``onnx fp32``: one of a kind in a bundle."""
        return f"{self.target} {self.precision}"

    @property
    def batch(self) -> int:
        """Inputs in one call."""
        return len(next(iter(self.feed.values())))


class FreshProcess:
    """A context manager; leaving it ends the process, however far it came.

    Raises :class:`UlsamError` as the worker did, :class:`ExportError` with its last words when it died.
    """

    def __init__(
        self, subject: Subject, *, threads: int | None, cpus: Sequence[int], warmup: int, warmup_seconds: float
    ) -> None:
        packed = io.BytesIO()
        write_arrays(packed, subject.feed)
        self._label = subject.label
        self._job = {
            "runtime": subject.runtime,
            "files": [str(path) for path in subject.files],
            "inputs": [dataclasses.asdict(spec) for spec in subject.inputs],
            "outputs": [dataclasses.asdict(spec) for spec in subject.outputs],
            "feed": base64.b64encode(packed.getvalue()).decode("ascii"),
            "threads": threads,
            "cpus": list(cpus),
            "warmup": warmup,
            "warmup_seconds": warmup_seconds,
        }

    def __enter__(self) -> FreshProcess:
        self._errors: IO[bytes] = tempfile.TemporaryFile()  # closed in __exit__
        self._process = subprocess.Popen(
            [sys.executable, "-c", _WORKER, json.dumps(sys.path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
        )
        try:
            #: ``load_ms`` and ``first_ms``, beside the runtime's facts.
            self.ready = self.ask(self._job)
            self.facts = codec.decode(EngineFacts, self.ready.get("facts"), "what the engine told", ExportError)
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout, self._errors):
            with contextlib.suppress(OSError):  # words that a dead process never read
                if stream:
                    stream.close()

    @property
    def pid(self) -> int:
        """The number by which the system knows it."""
        return self._process.pid

    def measure(self, min_seconds: float, min_count: int) -> dict[str, Any]:
        """``count``, ``samples`` and ``peak_rss``; from then on the network runs until :meth:`rest`."""
        return self.ask({"do": "measure", "min_seconds": min_seconds, "min_count": min_count})

    def spin(self) -> None:
        """Let the network run until :meth:`rest`."""
        self._send({"do": "spin"})

    def rest(self) -> dict[str, Any]:
        """End what :meth:`measure` or :meth:`spin` left running: ``count`` calls took ``seconds``."""
        return self.ask({"do": "rest"})

    def ask(self, words: Mapping[str, Any]) -> dict[str, Any]:
        """Send one line and return the answer."""
        self._send(words)
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise self._died()
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise _known(answer["error"])
        return answer

    def _send(self, words: Mapping[str, Any]) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(words) + "\n")
            self._process.stdin.flush()
        except OSError as error:
            raise self._died() from error

    def _died(self) -> ExportError:
        code = self._process.wait()
        self._errors.seek(0)
        said = self._errors.read().decode(errors="replace").strip().splitlines()
        how = f"was killed by {_signal(-code)}" if code < 0 else f"ended with exit code {code}"
        return ExportError(
            f"the process that timed '{self._label}' {how}" + (f": {said[-1]}" if said else ""),
            todo=f"see whether '{command('verify')}' runs it; memory may be short",
        )


def _signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _known(told: Mapping[str, Any]) -> UlsamError:
    error = UlsamError(told["found"], expected=told["expected"], todo=told["todo"])
    error.exit_code = told["exit_code"]
    return error
