"""Reads ``SWEEP.toml`` into cells, each with a key that changes with anything that its result depends on.

Files are hashed here, but not loaded.
"""

from __future__ import annotations

import glob
import itertools
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ulsam_deploy.device import cache, plugins, toml
from ulsam_deploy.device.errors import UsageError
from ulsam_deploy.device.hashing import digest_of
from ulsam_deploy.device.precisions import AUTO, CALIBRATED, parse_precisions
from ulsam_deploy.device.profiles import device
from ulsam_deploy.device.shapes import parse_shape, shape_text
from ulsam_deploy.device.spelling import other_number, unknown
from ulsam_deploy.device.targets import check_targets, parse_targets
from ulsam_deploy.exporting.options import ExportOptions
from ulsam_deploy.inputs import probes
from ulsam_deploy.load import source
from ulsam_deploy.sweep.store import fetched, is_url

#: The memory limit of one export: MobileNetV2 at 224 x 224 with all its ablations stays below 3 GiB
#: (docs/performance.md).
MEMORY_GIB = 3.0
_MOST_GIB = 1 << 20
#: The keys of the file, with their type and default.
_KEYS: Mapping[str, tuple[type, Any]] = {
    "checkpoints": (list, None),
    "targets": (list, None),
    "precisions": (list, ["fp32"]),
    "inputs": (list, [""]),
    "devices": (list, [""]),
    "output": (str, ""),
    "batch": (int, 1),
    "arch": (str, ""),
    "variant": (str, ""),
    "calibration": (str, ""),
    "probes": (str, ""),
    "labelled": (str, ""),
    "memory": (float, MEMORY_GIB),
}


@dataclass(frozen=True)
class Cell:
    """One row of the table.

    Attributes:
        options: The options of the export, with one target and one precision.
        checkpoint: A path or a URL.
        sha256: SHA-256 of the checkpoint.
        code: The digest of the project's own code; a worker must have the same.
        labelled: Labelled data to measure accuracy on, a path or a URL; empty: none.
    """

    key: str
    checkpoint: str
    sha256: str
    options: ExportOptions
    code: str
    labelled: str = ""
    labelled_sha256: str = ""

    @property
    def target(self) -> str:
        """The one target."""
        return self.options.targets[0]

    @property
    def precision(self) -> str:
        """The one precision."""
        return self.options.precisions[0]

    @property
    def size(self) -> str:
        """The input's shape as written in the file; empty: the checkpoint's own."""
        return shape_text(self.options.inputs[0]) if self.options.inputs else ""

    @property
    def words(self) -> str:
        """The cell as one line of text."""
        parts = (self.options.model.stem, self.target, self.precision, self.size, self.options.device)
        return " ".join(part for part in parts if part)


@dataclass(frozen=True)
class Sweep:
    """A whole sweep. ``memory``: the bytes that one task may use; ``output``: a folder or a URL."""

    title: str
    cells: tuple[Cell, ...]
    memory: int
    output: str


def read(path: Path, output: str = "") -> Sweep:
    """Read the sweep in the file ``path``; ``output`` overrides where it writes.

    Raises :class:`UsageError`, with the key, for anything that ``docs/sweep.md`` does not allow, and for files that
    cannot be read.
    """
    table = _table(path)
    folder = path.resolve().parent
    axes = (
        _places(table["checkpoints"], folder),
        parse_targets(_texts(table, "targets")),
        list(dict.fromkeys(word for text in _texts(table, "precisions") for word in parse_precisions(text))),
        [parse_shape(text) if text else () for text in _texts(table, "inputs")],
        _texts(table, "devices"),
    )
    _check_names(axes[1], axes[4])
    common = _common(table, folder)
    if common.calibration and not set(axes[2]) & {*CALIBRATED, AUTO}:
        raise UsageError(f"{path}: calibration is for int8", expected="int8 among the precisions, or no calibration")
    digests = {place: _digest(place) for place in axes[0]}
    code = cache.source_digest()
    labelled = _labelled(table["labelled"], folder)
    cells = [
        _cell(common, code, labelled, digests[place], place, *rest)
        for target, precision, size, board, place in itertools.product(*axes[1:], axes[0])
        for rest in [(target, precision, size, board)]
    ]
    return Sweep(
        title=path.stem,
        cells=tuple({cell.key: cell for cell in cells}.values()),
        memory=int(table["memory"] * 2**30),
        output=output or _output(table["output"], path, folder),
    )


def _check_names(targets: Sequence[str], boards: Sequence[str]) -> None:
    """Raise an error for an unknown name, which would fail in every cell."""
    check_targets(targets, plugins.registered(plugins.EXPORTERS))
    for name in filter(None, boards):
        device(name)


def _cell(
    common: ExportOptions, code: str, labelled: tuple[str, str], digest: str, place: str, target: str, precision: str,
    size: tuple[int, ...], board: str,
) -> Cell:  # fmt: skip
    options = replace(
        common,
        model=Path(place.rsplit("/", 1)[-1]) if is_url(place) else Path(place),
        targets=(target,),
        precisions=(precision,),
        calibration=common.calibration if precision in (*CALIBRATED, AUTO) else None,
        inputs=(size,) if size else (),
        device=board,
    )
    about: list[object] = [digest, options.model.stem, target, precision, options.inputs, board, options.batch]
    about += [options.arch, options.variant, labelled[1]]
    about += [probes.digest(path) if path else "" for path in (options.probes, options.calibration)]
    return Cell(cache.key("sweep", about, code), place, digest, options, code, *labelled)


def _common(table: Mapping[str, Any], folder: Path) -> ExportOptions:
    """The options that all cells share; ``batch = 0`` means dynamic."""
    if table["batch"] < 0:
        raise UsageError(f"batch is {table['batch']}", expected="a number, or 0 for a dynamic batch")
    return ExportOptions(
        model=Path(),
        batch=table["batch"] or None,
        arch=table["arch"] or None,
        variant=table["variant"] or None,
        calibration=folder / table["calibration"] if table["calibration"] else None,
        probes=folder / table["probes"] if table["probes"] else None,
    )


def _table(path: Path) -> dict[str, Any]:
    content = toml.read(path, f"'{path}'", expected="a file as docs/sweep.md says")
    given = dict[str, Any]()
    for word, value in content.items():
        key = word if word in _KEYS else other_number(word, _KEYS)
        if not key:
            raise unknown(f"{path}: unknown key '{word}'", word, _KEYS, todo="see docs/sweep.md")
        if key in given:
            raise UsageError(f"{path}: '{word}' says '{key}' a second time", expected="one of the two")
        given[key] = [value] if _KEYS[key][0] is list and isinstance(value, str) else value
    table = {}
    for key, (kind, default) in _KEYS.items():
        if (value := given.get(key, default)) is None:
            raise UsageError(f"{path}: '{key}' is missing", expected="checkpoints and targets at least")
        number = kind is float and isinstance(value, int) and not isinstance(value, bool)
        if not number and type(value) is not kind:
            raise UsageError(f"{path}: {key} is {value!r}", expected=f"a {kind.__name__}")
        table[key] = value
    if not 0 < table["memory"] <= _MOST_GIB:  # which NaN isn't either
        raise UsageError(f"{path}: memory is {table['memory']}", expected="GiB that one task may take")
    return table


def _texts(table: Mapping[str, Any], key: str) -> list[str]:
    values = table[key]
    if not values or not all(isinstance(value, str) for value in values):
        raise UsageError(f"{key} is {values!r}", expected="a list of strings, at least one")
    return list(dict.fromkeys(values))


def _places(patterns: Sequence[str], folder: Path) -> list[str]:
    """Expand patterns such as ``nets/*.pt``, relative to the file's folder; paths and URLs in order, each once."""
    found: list[str] = []
    for pattern in patterns:
        if not isinstance(pattern, str):
            raise UsageError(f"checkpoints has {pattern!r}", expected="a list of paths or URLs")
        here = [pattern] if is_url(pattern) else sorted(glob.glob(os.path.join(folder, pattern)))  # noqa: PTH118, PTH207
        if not here:
            raise UsageError(f"checkpoints: no file matches '{pattern}' in {folder}", expected="existing files")
        found += here
    if not found:
        raise UsageError("the sweep has no checkpoints", expected="a list of paths or URLs, at least one")
    return list(dict.fromkeys(found))


def _labelled(said: str, folder: Path) -> tuple[str, str]:
    """The location of the labelled data and its digest; both empty without labelled data."""
    place = said if not said or is_url(said) else str(folder / said)
    return (place, _file_digest(place)) if place else ("", "")


def _digest(place: str) -> str:
    if is_url(place):
        return _file_digest(place)
    return source.file_digest(ExportOptions(model=Path(place)))


def _file_digest(place: str) -> str:
    with fetched(place) as path:
        return digest_of(path)


def _output(said: str, path: Path, folder: Path) -> str:
    if is_url(said):
        return said
    if "\0" in said:
        raise UsageError(f"{path}: output is {said!r}", expected="the name of a folder")
    return str(folder / said) if said else str(path.resolve().with_suffix(".sweep"))
