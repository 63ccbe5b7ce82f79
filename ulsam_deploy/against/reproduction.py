"""Writes a failure's reproduction: a folder with the artifact, the inputs, both outputs, and a script that reruns it.

The script uses public tools only.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ulsam_deploy.against.case import Case
from ulsam_deploy.device.arrays import ArrayMap
from ulsam_deploy.device.bundle import output
from ulsam_deploy.device.errors import ExportError, UsageError
from ulsam_deploy.device.files import staging, sync_tree
from ulsam_deploy.device.findings import EngineFacts
from ulsam_deploy.device.npz import write_arrays
from ulsam_deploy.device.runtime import to_artifact
from ulsam_deploy.device.types import TensorSpec

CASE, SCRIPT = "case.npz", "reproduce.py"

_TEXT = '''"""Runs {file} on the inputs in {case} and compares it with PyTorch in float64: python {script}"""

import numpy as np
{imports}
case = np.load("{case}")
inputs = {{{inputs}}}
{run}
for name, expected in {{{expected}}}.items():
    apart, largest = np.abs(outputs[name] - expected).max(), np.abs(expected).max()
    print(f"{{name}}: differs by up to {{apart:.3g}}, values reach {{largest:.3g}}")
'''


def check_folder(folder: Path) -> None:
    """Raise :class:`UsageError` if ``folder`` is not empty or cannot be created."""
    try:
        there = folder.exists() or folder.is_symlink()
        taken = there and any(folder.iterdir())
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise UsageError(f"cannot write to '{folder}': {why}", todo="choose another folder") from error
    if taken:
        raise UsageError(f"'{folder}' is not empty", expected="a new or empty folder for --reproduce")
    nearest = next(place for place in folder.resolve().parents if place.is_dir())
    output.check_folder(nearest, f"'{folder}'")


def write(folder: Path, case: Case, inputs: ArrayMap, expected: ArrayMap, found: ArrayMap, facts: EngineFacts) -> None:
    """Write the reproduction to ``folder``; arrays are given in PyTorch's layout and stored in the artifact's own.

    ``case.npz`` holds ``input 0``, ..., ``expected 0``, ... (float64) and ``found 0``, ..., in the order of ports.

    Args:
        folder: The folder to write.
        case: The artifact.
        inputs: The inputs that show the failure.
        expected: PyTorch's outputs.
        found: The artifact's outputs.
        facts: The engine's facts about the artifact.

    Raises:
        ExportError: The disk fails.
    """
    try:
        place = folder.resolve()
        place.mkdir(parents=True, exist_ok=True)
        with staging(place) as partial:
            _fill(partial, case, inputs, expected, found, facts)
            sync_tree(partial)
            for entry in sorted(partial.iterdir(), key=lambda entry: entry.name == SCRIPT):  # the script comes last
                entry.rename(place / entry.name)
    except OSError as error:
        raise ExportError(
            f"'{folder}' couldn't be written: {error.strerror or error}",
            todo="free some space, or choose another folder with --reproduce",
        ) from error


def _fill(folder: Path, case: Case, inputs: ArrayMap, expected: ArrayMap, found: ArrayMap, facts: EngineFacts) -> None:
    base = case.files[0].parent
    for file in case.files:
        copy = folder / file.relative_to(base)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, copy)
    arrays: dict[str, Any] = dict(
        _stored("input", case.inputs, {n: case.feed(inputs)[p.name] for n, p in case.inputs.items()})
    )
    present = {name: port for name, port in case.outputs.items() if name in found}
    arrays |= dict(_stored("expected", present, expected))
    arrays |= dict(_stored("found", present, found))
    write_arrays(folder / CASE, arrays)
    name = case.files[0].name
    imports, run = case.guarded.engine.script_for(facts).rstrip().replace("PATH", repr(name)).split("\n", 1)
    text = _TEXT.format(
        file=name,
        case=CASE,
        script=SCRIPT,
        imports=imports,
        run=run,
        inputs=_entries("input", case.inputs),
        expected=_entries("expected", present),
    )
    (folder / SCRIPT).write_text(text, encoding="utf-8")


def _stored(kind: str, specs: Mapping[str, TensorSpec], arrays: ArrayMap) -> Iterable[tuple[str, Any]]:
    for number, (name, spec) in enumerate(specs.items()):
        array = np.asarray(arrays[name])
        yield f"{kind} {number}", to_artifact(spec, array) if array.ndim == len(spec.shape) else array


def _entries(kind: str, specs: Mapping[str, TensorSpec]) -> str:
    return ", ".join(f'{spec.name!a}: case["{kind} {number}"]' for number, spec in enumerate(specs.values()))
