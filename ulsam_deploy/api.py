"""The three verbs for Python programs: :func:`export`, :func:`verify` and :func:`open`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from ulsam_deploy import evidence
from ulsam_deploy.bundle import Bundle, read_bundle
from ulsam_deploy.contracts import Runtime
from ulsam_deploy.errors import ExportError, UsageError
from ulsam_deploy.evidence import Checked

Array = np.ndarray[Any, Any]


def export(model: str | Path, targets: Sequence[str] = ("all",), **options: Any) -> Bundle:
    """Export the checkpoint ``model`` and return the bundle that was written.

    ``options`` are the fields of :class:`ulsam_deploy.options.ExportOptions`, e.g. ``batch=None`` for a dynamic batch.
    Raises the first target's error when any target that was named fails; a failed *check* is not an error here: read
    ``bundle.manifest.artifacts[i].evidence.verdict``.
    """
    from ulsam_deploy.options import ExportOptions
    from ulsam_deploy.pipeline import export as run
    from ulsam_deploy.progress import Progress

    for name in ("output", "probes", "calibration", "data"):
        if options.get(name) is not None:
            options[name] = Path(options[name])
    try:
        wanted = ExportOptions(model=Path(model), targets=tuple(targets), **options)
    except TypeError as error:
        raise UsageError(str(error), expected="fields of ulsam_deploy.options.ExportOptions") from error
    result = run(wanted, Progress(quiet=True))
    for outcome in result.outcomes:
        if outcome.error and outcome.required:
            raise outcome.error
    if result.bundle is None:
        raise ExportError("no target could be made", todo="run 'ulsam-deploy doctor'")
    return result.bundle


def verify(bundle: Bundle | str | Path, targets: Sequence[str] = (), device: str = "") -> list[Checked]:
    """Check a bundle's integrity, then run every artifact (of ``targets``) that can run here.

    With ``device``, on that board in emulation.
    """
    if device:
        from ulsam_deploy import emulate

        return emulate.verify_bundle(_opened(bundle), device, targets)
    return evidence.verify_bundle(_opened(bundle), targets)


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
        """Run one batch in PyTorch's layout (images NCHW, float32): one array a network input, in its order.

        Returns the output array, or a tuple where the network has several outputs.
        """
        specs = self.runtime.inputs
        if len(inputs) != len(specs):
            raise UsageError(f"{len(inputs)} inputs were given", expected=", ".join(spec.name for spec in specs))
        results = tuple(self.runtime.run({spec.name: array for spec, array in zip(specs, inputs)}).values())
        return results[0] if len(results) == 1 else results


def open(bundle: Bundle | str | Path, target: str, *, threads: int | None = None) -> Session:
    """The artifact of ``target``, its bundle's integrity checked first, ready to be entered with ``with``."""
    opened = _opened(bundle)
    opened.verify_integrity()
    record = opened.artifact(target)
    engine = evidence.runtime_for(record.target)
    return Session(engine(opened.files(record), record.inputs, record.outputs, threads=threads))


def _opened(bundle: Bundle | str | Path) -> Bundle:
    return bundle if isinstance(bundle, Bundle) else read_bundle(Path(bundle))
