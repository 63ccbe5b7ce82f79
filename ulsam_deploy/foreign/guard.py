"""An artifact of unknown origin behind a process boundary: whatever it does to its engine, the caller gets words.

Standard library and numpy. Nothing that comes back from the process is trusted: JSON and plain arrays only.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ulsam_deploy.contracts import Runtime, TensorSpec
from ulsam_deploy.errors import Exit, ExportError, RefusedError, UlsamError, UnavailableError, UsageError

Array = np.ndarray[Any, Any]
Specs = tuple[TensorSpec, ...]


@dataclass(frozen=True)
class Limits:
    """What one visit of the engine may take: ``seconds`` of wall clock, ``memory`` bytes of address space."""

    seconds: float = 300.0
    memory: int = 8 << 30


@dataclass(frozen=True)
class Guarded:
    """The artifact at ``path`` and the engine that opens it, each time in a process of its own within ``limits``.

    Every method raises :class:`ExportError` when the engine crashes or exceeds a limit, and the engine's own
    :class:`~ulsam_deploy.errors.UlsamError` otherwise.
    """

    engine: type[Runtime]
    path: Path
    limits: Limits

    def open(self) -> tuple[Specs, Specs, tuple[Path, ...]]:
        """Inputs and outputs as the artifact states them, and all files that belong to it."""
        answer, _ = self._visit("open", (), (), {})
        inputs, outputs = (_specs(answer[kind]) for kind in ("inputs", "outputs"))
        return inputs, outputs, tuple(map(Path, answer["files"]))

    def run(self, inputs: Specs, outputs: Specs, feed: Mapping[str, Array]) -> tuple[dict[str, Array], dict[str, Any]]:
        """Outputs ``(P, ...)`` by name on all of ``feed``, in PyTorch's layout, and the engine's facts."""
        answer, arrays = self._visit("run", inputs, outputs, feed)
        return arrays, answer["facts"]

    def values(self, inputs: Specs, outputs: Specs, feed: Mapping[str, Array]) -> dict[str, Array]:
        """Every floating-point tensor inside the artifact for one batch, in its own layout."""
        return self._visit("values", inputs, outputs, feed)[1]

    def _visit(
        self, action: str, inputs: Specs, outputs: Specs, feed: Mapping[str, Array]
    ) -> tuple[dict[str, Any], dict[str, Array]]:
        job = {
            "action": action,
            "engine": self.engine.name,
            "path": str(self.path.resolve()),
            "inputs": [asdict(spec) for spec in inputs],
            "outputs": [asdict(spec) for spec in outputs],
            "memory": self.limits.memory,
            "feed": list(feed),
        }
        with tempfile.TemporaryDirectory(prefix="ulsam-deploy-") as name:
            folder = Path(name)
            (folder / "job.json").write_text(json.dumps(job))
            np.savez(folder / "feed.npz", **{f"{index}": array for index, array in enumerate(feed.values())})  # type: ignore[arg-type]
            said = self._process(folder)
            return self._answer(folder, said)

    def _process(self, folder: Path) -> str:
        """Run the worker in ``folder``; the end of what it said, or :class:`ExportError` when it did not finish."""
        command = [sys.executable, "-m", "ulsam_deploy.foreign.worker"]
        # One arena a thread would reserve address space by the core, and the limit counts what is reserved.
        environment = {**os.environ, "MALLOC_ARENA_MAX": "2"}
        with (folder / "said").open("w+b") as said:
            process = subprocess.Popen(
                command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=said, stderr=said,
                start_new_session=True,
            )  # fmt: skip
            try:
                code = process.wait(self.limits.seconds)
            except subprocess.TimeoutExpired:
                raise ExportError(
                    f"{self._doing} took longer than {self.limits.seconds:g} seconds and was stopped",
                    todo="if the file is sound and large, allow more with --time-limit",
                ) from None
            finally:
                _stop(process)
            said.seek(max(0, said.tell() - 2000))
            words = said.read().decode(errors="replace").strip()
        if code:
            raise self._crash(code, words)
        return words

    @property
    def _doing(self) -> str:
        return f"{self.engine.name} on {self.path.name}"

    def _crash(self, code: int, words: str) -> ExportError:
        last = words.splitlines()[-1] if words else ""
        if "bad_alloc" in words or "MemoryError" in words:
            return self._too_much()
        how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit status {code}"
        return ExportError(
            f"{self._doing} crashed ({how})" + (f": {last[:300]}" if last else ""),
            expected="a file that the engine can open and run",
            todo="don't use this file: make it again with another version of the tool that wrote it",
        )

    def _too_much(self) -> ExportError:
        return ExportError(
            f"{self._doing} needed more memory than the {self.limits.memory / 2**30:g} GiB allowed",
            todo="if the file is sound and large, allow more with --memory-limit",
        )

    def _answer(self, folder: Path, words: str) -> tuple[dict[str, Any], dict[str, Array]]:
        try:
            answer = json.loads((folder / "answer.json").read_text())
            error = answer.get("error")
            with np.load(folder / "arrays.npz", allow_pickle=False) as file:
                arrays = {name: file[f"{index}"] for index, name in enumerate(answer["arrays"])}
        except (OSError, ValueError, KeyError, AttributeError, TypeError) as broken:
            raise self._crash(1, words or f"no answer ({type(broken).__name__})") from broken
        if answer.get("memory"):
            raise self._too_much()
        if error:
            raise _retold(error)
        return answer, arrays


def _stop(process: subprocess.Popen[bytes]) -> None:
    """End the worker and whatever it started, if it still runs."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _specs(plain: Sequence[Mapping[str, Any]]) -> Specs:
    return tuple(TensorSpec(spec["name"], tuple(spec["shape"]), spec["dtype"]) for spec in plain)


def _retold(error: Mapping[str, Any]) -> UlsamError:
    kinds = {kind.exit_code: kind for kind in (UsageError, ExportError, UnavailableError, RefusedError)}
    kind = kinds.get(Exit(error["exit_code"]), ExportError)
    if any(word in error["found"] for word in ("bad_alloc", "Failed to allocate memory")):
        return ExportError(error["found"], todo="if the file is sound and large, allow more with --memory-limit")
    return kind(error["found"], expected=error["expected"], todo=error["todo"])
