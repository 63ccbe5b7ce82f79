"""The files that ``compare`` takes: bundles, results of ``bench``, the JSON answers of ``verify`` and ``--count``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ulsam_deploy.device.data_files import contents
from ulsam_deploy.device.errors import UsageError

if TYPE_CHECKING:
    from ulsam_deploy.cli.bench_count import CountDocument
    from ulsam_deploy.gate import Build

__all__ = ["read_build", "read_builds", "read_bytes"]

#: Larger than a result of a day with the fastest network.
MOST_BYTES = 1 << 30
_BUNDLE, _EXPECTED = (
    "bundle",
    "bundles, results of 'bench -o', or the output of 'verify --json' or 'bench --count --json'",
)


def read_builds(baseline: Path, current: Path) -> tuple[Build, Build]:
    """Both files, which must be of the same kind.

    Raises:
        UsageError: One can't be read, is of no such kind, or the two are of different kinds.
        RefusedError: One is damaged.
    """
    (kind, old), (other, new) = read_build(baseline), read_build(current)
    if kind != other:
        raise UsageError(
            f"{baseline} is the {kind} and {current} the {other}: these have few figures in common",
            expected=f"two files of the same kind: {_EXPECTED}",
        )
    return old, new


def read_build(path: Path) -> tuple[str, Build]:
    """The kind of the file, and the build that it describes; errors as of :func:`read_builds`."""
    from ulsam_deploy.cli.bench_count import CountDocument
    from ulsam_deploy.device import codec
    from ulsam_deploy.device.bench.result import SCHEMA, Result
    from ulsam_deploy.device.bundle import read_bundle
    from ulsam_deploy.device.commands.documents import VerifyDocument
    from ulsam_deploy.gate import of_bundle, of_result, of_verified

    if path.is_dir() or path.suffix == ".zip":
        bundle = read_bundle(path)
        bundle.verify_integrity()
        return _BUNDLE, of_bundle(bundle)
    data = read_bytes(path)
    plain = codec.loads(data, path.name)
    kind = _kind(plain)
    if kind == _kind({"schema": SCHEMA}):
        return "result of bench", of_result(Result.from_json(data, path.name))
    if kind == "verify":
        return "answer of verify", of_verified(codec.decode(VerifyDocument, plain, path.name))
    if kind == "count":
        return "count of instructions", _of_counts(codec.decode(CountDocument, plain, path.name))
    raise UsageError(f"{path} is none of the files that can be compared: it is '{kind}'", expected=_EXPECTED)


def _kind(plain: object) -> str:
    """The name in its schema: ``bench``; a document without one counts as a result, whose reader says what is wrong."""
    schema = plain.get("schema") if isinstance(plain, dict) else None
    return schema.partition(".")[2].partition("/")[0] if isinstance(schema, str) else "bench"


def read_bytes(path: Path) -> bytes:
    """The bytes of a result or an answer; raises :class:`UsageError` if it can't be read."""
    try:
        return contents(path, MOST_BYTES)
    except OSError as error:
        todo = "make one with 'ulsam-deploy bench BUNDLE -o FILE'"
        raise UsageError(f"{path} can't be read: {error.strerror}", expected=_EXPECTED, todo=todo) from error


def _of_counts(document: CountDocument) -> Build:
    from ulsam_deploy.gate import ArtifactFigures, Build
    from ulsam_deploy.gate.build import Same

    found, left_out = {}, {}
    for one in document.artifacts:
        if one.counts is None:
            left_out[f"{one.target} {one.precision}"] = one.error or "it was not counted"
            continue
        counts = one.counts
        phases = {"inference": counts.inference, "first run": counts.first, "loading": counts.load}
        artifact = ArtifactFigures(
            one.target,
            one.precision,
            computes=counts.engine.precision,
            instructions={name: phase.instructions for name, phase in phases.items()},
            under={Same.PROCESSOR: {"board": document.device, "core": counts.core, "batch": str(counts.batch)}},
        )
        found[artifact.label] = artifact
    return Build(found, left_out, board=document.device)
