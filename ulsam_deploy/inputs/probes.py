"""The user's own inputs, used with the built-in probes: ``FILE.npz``, or a folder of images or ``.npy`` files.

One reader for ``--probes`` and ``--calibration``. numpy only, except for images.
"""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np

from ulsam_deploy.device import images
from ulsam_deploy.device.arrays import Array
from ulsam_deploy.device.data_files import opened
from ulsam_deploy.device.errors import UsageError
from ulsam_deploy.device.hashing import digest_of
from ulsam_deploy.device.npz import UnsoundArraysError, read_array, read_arrays
from ulsam_deploy.device.parity import make_probes
from ulsam_deploy.device.preprocessing import Preprocessing
from ulsam_deploy.device.shapes import shape_text
from ulsam_deploy.device.spelling import unknown

Shapes = Mapping[str, Sequence[int]]
_Read = TypeVar("_Read")

#: The number of probes that an export checks on; rounded up to whole batches.
PROBES = 24

_TODO = "save them with numpy.savez: one array for each input, samples along the first axis, normalized as in training"


def with_built_in(
    path: Path | None, shapes: Shapes, batch: int, preprocessing: Preprocessing | None = None
) -> tuple[dict[str, Array], tuple[str, ...]]:
    """Combine the built-in probes with those of ``path``.

    Args:
        path: The user's probes, as in :func:`read`; ``None``: only the built-in ones.
        shapes: The network's inputs, without the batch.
        batch: The number of probes is a multiple of it.
        preprocessing: How images become inputs.

    Returns:
        The probes, (P, ...) by input name, and a name for each.

    Raises:
        UsageError: As in :func:`read`.
    """
    if path is None:
        return make_probes(shapes, count=PROBES, batch=batch)
    own, names = read(path, shapes, preprocessing)
    filling = -(PROBES + len(names)) % batch
    inputs, built_in = make_probes(shapes, count=PROBES + filling)
    return {name: np.concatenate([inputs[name], own[name]]) for name in shapes}, (*built_in, *names)


def read(
    path: Path, shapes: Shapes, preprocessing: Preprocessing | None = None
) -> tuple[dict[str, Array], tuple[str, ...]]:
    """Read the samples in ``path``.

    An ``.npz`` has one array for each input, under the input's name (under any name if there is only one input). A
    folder has images or ``.npy`` files, for a network with one input. A float32 array is one sample, or several along
    a first axis, in the form of the network's input; ``preprocessing`` converts images and uint8 arrays to this form.

    Returns:
        The samples, float32 (P, ...) by input name, and their names (``yours-0``, or by file).

    Raises:
        UsageError: Another shape or dtype, values that are not finite, a file without arrays, or images without a
            preprocessing.
    """
    if not path.is_dir():
        return _from_npz(path, shapes, preprocessing)
    if len(shapes) > 1:
        raise UsageError(
            f"'{path}' is a folder, and the network has {len(shapes)} inputs", expected="an .npz", todo=_TODO
        )
    files = _files(path)
    if not files:
        raise UsageError(
            f"there are no pictures or .npy files in '{path}'", expected="one sample, or several, in each", todo=_TODO
        )
    (name, shape), parts, names = next(iter(shapes.items())), [], []
    for file in files:
        part = _of_file(file, tuple(shape), preprocessing)
        parts.append(part)
        names += [f"yours-{file.stem}" + (f"-{i}" if len(part) > 1 else "") for i in range(len(part))]
    return {name: np.concatenate(parts)}, _unique(names)


def _files(path: Path) -> list[Path]:
    """The sample files of a folder, sorted by name."""
    return sorted(file for file in path.iterdir() if file.suffix.lower() in {".npy", *images.SUFFIXES})


def _of_file(file: Path, shape: tuple[int, ...], preprocessing: Preprocessing | None) -> Array:
    if file.suffix.lower() == ".npy":
        return _checked(_load(file, read_array), shape, f"'{file.name}'", preprocessing)
    return images.read_image(file, shape, images.stated(preprocessing, f"'{file.name}'"))[None]


def digest(path: Path) -> str:
    """SHA-256 over the files, in hexadecimal; raises :class:`UsageError` if one cannot be read."""
    sha = hashlib.sha256()
    for file in _files(path) if path.is_dir() else [path]:
        try:
            sha.update(f"{file.name}\0{digest_of(file)}\n".encode())
        except OSError as error:
            raise _unreadable(file, error) from error
    return sha.hexdigest()


def _from_npz(
    path: Path, shapes: Shapes, preprocessing: Preprocessing | None
) -> tuple[dict[str, Array], tuple[str, ...]]:
    arrays = _load(path, read_arrays) if _is_zip(path) else {"": _load(path, read_array)}
    if len(shapes) == len(arrays) == 1:
        arrays = dict(zip(shapes, arrays.values()))
    if set(arrays) != set(shapes):
        surplus = min(set(arrays) - set(shapes), default="")
        found = f"'{path.name}' holds {', '.join(sorted(arrays)) or 'no arrays'}"
        raise unknown(found, surplus, sorted(set(shapes) - set(arrays)), expected=", ".join(shapes), todo=_TODO)
    probes = {
        name: _checked(arrays[name], tuple(shape), f"'{name}' in '{path.name}'", preprocessing)
        for name, shape in shapes.items()
    }
    counts = {len(array) for array in probes.values()}
    if len(counts) > 1:
        raise UsageError(f"'{path.name}' holds {sorted(counts)} samples", expected="as many for each input", todo=_TODO)
    return probes, tuple(f"yours-{i}" for i in range(counts.pop()))


def _is_zip(path: Path) -> bool:
    try:
        with opened(path) as stream:
            return zipfile.is_zipfile(stream)
    except OSError as error:
        raise _unreadable(path, error) from error


def _load(path: Path, read: Callable[..., _Read]) -> _Read:
    try:
        return read(path, own=True)
    except UnsoundArraysError as error:
        raise _unreadable(path, error) from error


def _checked(array: Array, shape: tuple[int, ...], what: str, preprocessing: Preprocessing | None) -> Array:
    """``array`` as (P, *shape), or :class:`UsageError`."""
    if array.dtype == np.uint8 and (preprocessing is not None or array.shape[-len(shape) :] != shape):
        return images.read_pixels(array, shape, images.stated(preprocessing, what), what)
    probes = array[None] if array.shape == shape else array
    wanted = shape_text(shape)
    if probes.shape[1:] != shape or not len(probes):
        given = shape_text(array.shape)
        raise UsageError(f"{what} has shape {given}", expected=f"{wanted}, or Nx{wanted}", todo=_TODO)
    if probes.dtype != np.float32:
        expected = "float32" + (", or a --preprocessing for 8-bit pixels" if probes.dtype == np.uint8 else "")
        raise UsageError(f"{what} has dtype {probes.dtype}", expected=expected, todo=_TODO)
    bad = ~np.isfinite(probes.reshape(len(probes), -1)).all(1)
    if bad.any():
        raise UsageError(f"{what} has values that are not finite in sample {int(np.argmax(bad))}", expected="numbers")
    return probes


def _unique(names: Sequence[str]) -> tuple[str, ...]:
    def numbered() -> Iterator[str]:
        for i, name in enumerate(names):
            yield f"{name}-{i}" if names.count(name) > 1 else name

    return tuple(numbered())


def _unreadable(path: Path, error: Exception) -> UsageError:
    why = error.strerror if isinstance(error, OSError) else error
    return UsageError(
        f"'{path}' cannot be read: {why}", expected="an .npz, or a folder of pictures or .npy", todo=_TODO
    )
