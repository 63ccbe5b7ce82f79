"""Labelled data, batch by batch: a folder per class, or an ``.npz`` with labels; one batch at a time is in memory.

Standard library and numpy only; device-safe. Pictures need Pillow and are decoded by :mod:`ulsam_deploy.device.images`.
"""

from __future__ import annotations

import abc
import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from ulsam_deploy.device.arrays import Array
from ulsam_deploy.device.errors import UsageError
from ulsam_deploy.device.hashing import digest_of
from ulsam_deploy.device.npz import ArrayFile, Rows, UnsoundArraysError, read_array
from ulsam_deploy.device.preprocessing import Preprocessing
from ulsam_deploy.device.shapes import shape_text
from ulsam_deploy.device.types import TensorSpec

__all__ = ["Labelled", "open_labelled"]


Feed = dict[str, Array]

#: The array of an ``.npz`` that contains the classes.
LABELS = "labels"
_TODO = f"save them with numpy.savez: one array for each input, and '{LABELS}', whole numbers from 0 on"


class Labelled(abc.ABC):
    """Samples as inputs of the network, and the class of each. ``labels``: int64 ``(N,)``."""

    labels: Array

    @abc.abstractmethod
    def batches(self, size: int) -> Iterator[tuple[Feed, Array]]:
        """Batches of at most ``size`` samples, in order: float32 ``(n, ...)`` by input, and their labels."""

    @abc.abstractmethod
    def digest(self) -> str:
        """SHA-256 over the files and the class of each sample, in hexadecimal."""

    @property
    def count(self) -> int:
        """The number of samples."""
        return len(self.labels)


def open_labelled(
    path: Path, inputs: Sequence[TensorSpec], classes: int, preprocessing: Preprocessing | None = None
) -> Labelled:
    """Open the labelled samples in ``path``, for a network with ``inputs`` and ``classes``.

    A folder has one folder per class, with pictures or ``.npy`` samples; an ``.npz`` has ``labels`` and an array for
    each input (with any name if there is one input). float32 arrays are used as they are; pictures and uint8 arrays are
    converted by ``preprocessing``. Raises :class:`UsageError` for data that cannot be read this way, and for labels
    that are not a class of the network.
    """
    if path.is_dir():
        return _Folder(path, inputs, classes, preprocessing)
    return _Npz(path, inputs, classes, preprocessing)


class _Folder(Labelled):
    """Samples in one folder per class."""

    def __init__(
        self, path: Path, inputs: Sequence[TensorSpec], classes: int, preprocessing: Preprocessing | None
    ) -> None:
        if len(inputs) > 1:
            raise UsageError(f"'{path}' is a folder, and the network has {len(inputs)} inputs", expected="an .npz")
        from ulsam_deploy.device import images

        self._path, self._input, self._how = path, inputs[0], preprocessing
        folders = sorted(folder for folder in path.iterdir() if folder.is_dir() and not folder.name.startswith("."))
        numbers = _numbers(path, [folder.name for folder in folders], classes)
        known = {".npy", *images.SUFFIXES}
        found = [
            (file, number)
            for folder, number in zip(folders, numbers)
            for file in sorted(folder.iterdir())
            if file.suffix.lower() in known
        ]
        if not found:
            raise UsageError(f"there are no pictures or .npy files in the folders of '{path}'", expected="some in each")
        self._files = [file for file, _ in found]
        self.labels = np.array([number for _, number in found], np.int64)

    def batches(self, size: int) -> Iterator[tuple[Feed, Array]]:
        for start in range(0, self.count, size):
            chosen = self._files[start : start + size]
            yield {self._input.name: np.stack([self._read(file) for file in chosen])}, self.labels[start : start + size]

    def digest(self) -> str:
        sha = hashlib.sha256()
        for file, label in zip(self._files, self.labels):
            sha.update(f"{file.relative_to(self._path).as_posix()}\0{label}\0{digest_of(file)}\n".encode())
        return sha.hexdigest()

    def _read(self, file: Path) -> Array:
        from ulsam_deploy.device import images

        shape = _shape(self._input)
        if file.suffix.lower() == ".npy":
            try:
                array = read_array(file, own=True)
            except UnsoundArraysError as error:
                raise _unreadable(file, error) from error
            one: Array = _checked(array[None], self._input, self._how, f"'{file.name}'")[0]
            return one
        picture: Array = images.read_image(file, shape, images.stated(self._how, f"'{file.name}'"))
        return picture


def _numbers(path: Path, names: Sequence[str], classes: int) -> list[int]:
    """The class of each folder, in order of names.

    Numbered by name, as in torchvision's ``ImageFolder``. Names that are numbers themselves must give the same classes.
    """
    if len(names) != classes:
        raise UsageError(
            f"'{path}' has {len(names)} folders, and the network has {classes} classes",
            expected="one folder for each class, even an empty one",
        )
    for number, name in enumerate(names):
        if name.isdecimal() and int(name) != number:
            raise UsageError(
                f"the folder '{name}' of '{path}' is number {number} by name: it could be either class",
                expected="numbers with leading zeros, from 0 on, so that both are one",
                todo=f"rename the folders, or give an .npz with '{LABELS}'",
            )
    return list(range(len(names)))


class _Npz(Labelled):
    """Samples in the arrays of an ``.npz``, read sequentially from the zip file."""

    def __init__(
        self, path: Path, inputs: Sequence[TensorSpec], classes: int, preprocessing: Preprocessing | None
    ) -> None:
        self._path, self._inputs, self._how = path, inputs, preprocessing
        try:
            with ArrayFile(path) as file:
                if LABELS not in file.names:
                    held = ", ".join(sorted(file.names)) or "no arrays"
                    raise UsageError(f"'{path.name}' holds {held}", expected=f"'{LABELS}' as well", todo=_TODO)
                present, labels = file.names, file.read(LABELS)
        except UnsoundArraysError as error:
            raise _unreadable(path, error) from error
        self._members = _members(path, inputs, [name for name in present if name != LABELS])
        self.labels = _checked_labels(labels, classes, path)

    def batches(self, size: int) -> Iterator[tuple[Feed, Array]]:
        try:
            with ArrayFile(self._path) as file:
                arrays = [_rows(file, member, self.count) for member in self._members]
                for start in range(0, self.count, size):
                    count = min(size, self.count - start)
                    feed = {
                        spec.name: _checked(rows.read(count), spec, self._how, f"'{spec.name}'")
                        for spec, rows in zip(self._inputs, arrays)
                    }
                    yield feed, self.labels[start : start + count]
        except UnsoundArraysError as error:
            raise _unreadable(self._path, error) from error

    def digest(self) -> str:
        return digest_of(self._path)


def _rows(file: ArrayFile, member: str, count: int) -> Rows:
    """The array ``member``, one row for each of ``count`` samples."""
    rows = file.rows(member)
    if rows.fortran or rows.shape[:1] != (count,):
        given = f"{rows.dtype} of shape {shape_text(rows.shape)}" + (", columns first" if rows.fortran else "")
        raise UsageError(f"'{member}' holds {given}", expected=f"{count} samples along the first axis", todo=_TODO)
    return rows


def _members(path: Path, inputs: Sequence[TensorSpec], present: Sequence[str]) -> tuple[str, ...]:
    """The array of each input."""
    if len(inputs) == len(present) == 1:
        return (present[0],)
    names = tuple(spec.name for spec in inputs)
    if set(names) != set(present):
        held = ", ".join(sorted(present)) or "no arrays"
        raise UsageError(
            f"'{path.name}' holds {held} beside its labels", expected=", ".join(names) or "an array", todo=_TODO
        )
    return names


def _checked_labels(labels: Array, classes: int, path: Path) -> Array:
    if labels.ndim != 1 or labels.dtype.kind not in "iu" or not len(labels):
        raise UsageError(
            f"'{LABELS}' in '{path.name}' is {labels.dtype} of shape {shape_text(labels.shape)}",
            expected="one whole number a sample",
            todo=_TODO,
        )
    wrong = labels[(labels < 0) | (labels >= classes)]
    if len(wrong):
        raise UsageError(
            f"'{LABELS}' in '{path.name}' has class {wrong[0]}, and the network has {classes} classes",
            expected=f"0 to {classes - 1}",
        )
    return labels.astype(np.int64)


def _shape(spec: TensorSpec) -> tuple[int, ...]:
    return tuple(size or 1 for size in spec.shape[1:])


def _checked(rows: Array, spec: TensorSpec, how: Preprocessing | None, what: str) -> Array:
    """``rows`` as inputs of the network; raises :class:`UsageError` if they don't fit."""
    shape = _shape(spec)
    if rows.dtype == np.uint8 and how is not None:
        from ulsam_deploy.device import images

        return images.read_pixels(rows, shape, how, what)
    if rows.shape[1:] != shape or rows.dtype != np.float32:
        given = f"{rows.dtype} of shape " + shape_text(rows.shape[1:])
        more = ", or a bundle that states its preprocessing" if rows.dtype == np.uint8 else ""
        raise UsageError(f"{what} holds {given} a sample", expected="float32 of shape " + shape_text(shape) + more)
    if not np.isfinite(rows).all():
        raise UsageError(f"{what} has values that are not finite", expected="numbers")
    return rows


def _unreadable(path: Path, error: Exception) -> UsageError:
    return UsageError(
        f"'{path}' cannot be read: {error}",
        expected=f"a folder a class, or an .npz with '{LABELS}'",
        todo=_TODO,
    )
