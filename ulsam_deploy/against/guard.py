"""An artifact of unknown origin behind a process boundary: whatever it does to its engine, the caller gets words.

Standard library and numpy. Nothing that comes back from the process is trusted: JSON and plain arrays only.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ulsam_deploy.device import codec
from ulsam_deploy.device.arrays import Array
from ulsam_deploy.device.errors import ExportError
from ulsam_deploy.device.files import scratch
from ulsam_deploy.device.findings import EngineFacts
from ulsam_deploy.device.npz import DAMAGE, read_arrays, write_arrays
from ulsam_deploy.device.runtime import Runtime
from ulsam_deploy.device.subprocesses import Limits, answer, crash, visit
from ulsam_deploy.device.types import TensorSpec

Specs = tuple[TensorSpec, ...]

WORKER = "ulsam_deploy.against.worker"


@dataclass(frozen=True)
class Guarded:
    """The artifact at ``path`` and the engine that opens it, each time in a process of its own within ``limits``.

    Every method raises :class:`ExportError` when the engine crashes or exceeds a limit, and the engine's own
    :class:`~ulsam_deploy.device.errors.UlsamError` otherwise.
    """

    engine: type[Runtime]
    path: Path
    limits: Limits

    def open(self) -> tuple[Specs, Specs, tuple[Path, ...]]:
        """Inputs and outputs as the artifact states them, and all files that belong to it."""
        found, _ = self._visit("open", (), (), {})
        inputs, outputs = (_specs(found[kind]) for kind in ("inputs", "outputs"))
        return inputs, outputs, tuple(map(Path, found["files"]))

    def run(
        self, inputs: Specs, outputs: Specs, feed: Mapping[str, Array], without: range | None = None
    ) -> tuple[dict[str, Array], EngineFacts]:
        """Outputs ``(P, ...)`` by name on all of ``feed``, in PyTorch's layout, and the engine's facts.

        ``without``: of the artifact's twin in which the softmaxes of these numbers give zero.
        """
        found, arrays = self._visit("run", inputs, outputs, feed, without)
        return arrays, codec.decode(EngineFacts, found.get("facts"), "what the engine told", ExportError)

    def values(
        self, inputs: Specs, outputs: Specs, feed: Mapping[str, Array], size: int, without: range | None = None
    ) -> list[dict[str, Array]]:
        """Every floating-point tensor inside the artifact, or its twin, for each ``size`` rows of ``feed``.

        In the artifact's own layout.
        """
        _, arrays = self._visit("values", inputs, outputs, feed, without, size)
        batches: dict[int, dict[str, Array]] = {}
        for key, array in arrays.items():
            number, name = key.split("/", 1)
            batches.setdefault(int(number), {})[name] = array
        return list(batches.values())

    def softmaxes(self) -> int:
        """How many softmaxes the artifact has; 0 where that cannot be told."""
        found, _ = self._visit("softmaxes", (), (), {})
        return int(found["softmaxes"])

    def _visit(
        self,
        action: str,
        inputs: Specs,
        outputs: Specs,
        feed: Mapping[str, Array],
        without: range | None = None,
        size: int = 1,
    ) -> tuple[dict[str, Any], dict[str, Array]]:
        job = {
            "action": action,
            "engine": self.engine.name,
            "path": str(self.path.resolve()),
            "inputs": [asdict(spec) for spec in inputs],
            "outputs": [asdict(spec) for spec in outputs],
            "memory": self.limits.memory,
            "feed": list(feed),
            "size": size,
            "without": [without.start, without.stop] if without else None,
        }
        with scratch() as folder:
            (folder / "job.json").write_text(json.dumps(job))
            write_arrays(folder / "feed.npz", {f"{index}": array for index, array in enumerate(feed.values())})
            said = visit(WORKER, folder, self.limits, self._doing)
            return self._answer(folder, said)

    @property
    def _doing(self) -> str:
        return f"{self.engine.name} on {self.path.name}"

    def _answer(self, folder: Path, words: str) -> tuple[dict[str, Any], dict[str, Array]]:
        found = answer(folder, words, self.limits, self._doing)
        try:
            stored = read_arrays(folder / "arrays.npz")
            arrays = {name: stored[f"{index}"] for index, name in enumerate(found["arrays"])}
        except DAMAGE as broken:
            raise crash(1, words or f"no answer ({type(broken).__name__})", self.limits, self._doing) from broken
        return found, arrays


def _specs(plain: Sequence[Mapping[str, Any]]) -> Specs:
    return tuple(TensorSpec(spec["name"], tuple(spec["shape"]), spec["dtype"]) for spec in plain)
