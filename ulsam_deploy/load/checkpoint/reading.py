"""Reads a checkpoint file into plain, finite float32 tensors under their own names."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ulsam_deploy.device.data_files import contents
from ulsam_deploy.device.errors import ExportError, UnavailableError, UsageError
from ulsam_deploy.device.invocation import extra
from ulsam_deploy.load.checkpoint.choosing import EXPECTED, choose
from ulsam_deploy.load.checkpoint.formats import broken, decode

if TYPE_CHECKING:
    from torch import Tensor, nn

#: This tool is for compact networks; the file is read into memory once, so that the bytes hashed are the bytes parsed.
MAX_BYTES = 4 << 30
#: Types of numbers that can be copied, compared and converted. Newer ones, such as ``uint3``, have hardly any operator.
_DTYPES = frozenset(
    {"bool", "uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64"}
    | {"float16", "bfloat16", "float32", "float64"}
    | {"float8_e4m3fn", "float8_e4m3fnuz", "float8_e5m2", "float8_e5m2fnuz", "float8_e8m0fnu"}
)
#: Copying a tensor with more axes fails in torch.
_AXES = 64
_PREFIX = re.compile(r"(?:module\.|_orig_mod\.)+")


@dataclass(frozen=True)
class Checkpoint:
    """Weights in the form in which they are used, and their origin.

    Attributes:
        tensors: Detached, contiguous, finite, and on the CPU; all floating types are float32.
        metadata: The plain data stored beside the weights: numbers, strings, and lists and dictionaries of them.
        sha256: SHA-256 of the file's bytes.
        notes: Sentences for the user about what was changed or ignored while reading.
        module: The network itself, as it was saved, where a trusted file holds it.
    """

    tensors: Mapping[str, Tensor]
    metadata: Mapping[str, Any]
    sha256: str
    name: str = "checkpoint"
    notes: tuple[str, ...] = ()
    module: nn.Module | None = None


def read(
    path: str | Path, *, trust_pickle: bool = False, allow_globals: Collection[str] = (), weights: str = ""
) -> Checkpoint:
    """Read a checkpoint: torch.save (zip or older) or safetensors, detected by content.

    Args:
        path: The file.
        trust_pickle: Allow its pickle to run any code.
        allow_globals: The globals (``module.name``) that its pickle may use; by default only weights are read.
        weights: The key under which the weights are, with dots between the levels; empty: find them.

    Raises:
        RefusedError: Reading would run code (exit 6).
        UsageError: The file does not exist or cannot be opened, or holds several networks (exit 2).
        ExportError: It is damaged, is not a checkpoint, or has weights that are not finite (exit 3).
    """
    path = Path(path)
    data = _contents(path)
    if importlib.util.find_spec("torch") is None:
        raise UnavailableError("reading a checkpoint needs PyTorch, which is not installed", todo=extra("export"))
    found, strings = decode(data, path.name, trust=trust_pickle, allow=frozenset(allow_globals))
    chosen = choose(found, path.name, weights)
    check_tensors(chosen.weights, path.name, len(data))
    stripped, prefix_notes = _strip_prefix(chosen.weights)
    tensors, dtype_notes = normalise(stripped)
    check_finite(tensors, path.name)
    metadata = {**_plain_part(chosen.beside), **_from_strings(strings)}
    digest = hashlib.sha256(data).hexdigest()
    notes = (*chosen.notes, *prefix_notes, *dtype_notes)
    return Checkpoint(tensors, metadata, digest, path.name, notes, chosen.module)


def _contents(path: Path) -> bytes:
    """The whole file; what is hashed and what is parsed are the same bytes."""
    if path.is_dir():
        raise UsageError(f"'{path}' is a folder", expected=EXPECTED, todo="name the checkpoint file in it")
    if not path.exists():
        raise UsageError(f"'{path}' does not exist", expected=EXPECTED)
    try:
        data = contents(path, MAX_BYTES)
    except OSError as error:
        raise UsageError(f"'{path}' cannot be opened: {error.strerror}", expected=EXPECTED) from error
    if not data:
        raise broken(path.name, "it is empty")
    return data


def check_tensors(weights: Mapping[str, Tensor], name: str, size: int) -> None:
    """Raise :class:`ExportError` for unusual tensors, and for more values than a file of ``size`` bytes can hold.

    With a stride of 0, a small file can declare any number of values.
    """
    import torch

    for key, tensor in weights.items():
        odd = tensor.layout != torch.strided or tensor.device.type != "cpu" or tensor.ndim > _AXES
        named = str(tensor.dtype).removeprefix("torch.")
        if odd or named not in _DTYPES or type(tensor) not in (torch.Tensor, torch.nn.Parameter):
            kind = f"{named} {type(tensor).__name__} of {tensor.ndim} axes on {tensor.device.type}, {tensor.layout}"
            raise ExportError(
                f"'{key}' in '{name}' is a {kind}",
                expected="ordinary dense tensors",
                todo="save the network before quantizing or sharding it",
            )
    # Twice the size, for tied weights: they share bytes in the file, but each is counted here.
    if sum(tensor.numel() * tensor.element_size() for tensor in weights.values()) > 2 * size:
        raise broken(name, "its tensors declare more values than the file holds")


def _strip_prefix(weights: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
    """Remove ``module.`` (DataParallel, averaging) and ``_orig_mod.`` (torch.compile) if all keys start with it."""
    named = {key: tensor for key, tensor in weights.items() if key != "n_averaged"}
    first = _PREFIX.match(next(iter(named), ""))
    if first is None or not all(key.startswith(first[0]) for key in named):
        return dict(weights), []
    stripped = {key[len(first[0]) :]: tensor for key, tensor in named.items()}
    return stripped, [f"the leading '{first[0]}' was taken off every key"]


def normalise(weights: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
    """Detached, contiguous copies; every floating type becomes float32, and notes list the other types."""
    import torch

    tensors: dict[str, Tensor] = {}
    changed: dict[torch.dtype, int] = {}
    for key, tensor in weights.items():
        dtype = torch.float32 if tensor.is_floating_point() else tensor.dtype
        if dtype != tensor.dtype:
            changed[tensor.dtype] = changed.get(tensor.dtype, 0) + 1
        tensors[key] = tensor.detach().to(dtype, copy=True, memory_format=torch.contiguous_format)
    notes = [
        f"{count} tensors of type {str(dtype).removeprefix('torch.')} were converted to float32"
        for dtype, count in changed.items()
    ]
    return tensors, notes


def check_finite(tensors: Mapping[str, Tensor], name: str) -> None:
    """Raise an :class:`ExportError` that lists the weights of ``name`` which are not finite."""
    import torch

    floats = {key: tensor for key, tensor in tensors.items() if tensor.is_floating_point()}
    bad = [key for key, tensor in floats.items() if not bool(torch.isfinite(tensor).all())]
    if bad:
        more = f" and {len(bad) - 3} more" if len(bad) > 3 else ""
        raise ExportError(
            f"'{name}' has weights that are not finite: {', '.join(bad[:3])}{more}",
            expected="finite numbers",
            todo="take an earlier checkpoint: this training run has diverged",
        )


def _plain_part(beside: Mapping[str, object]) -> dict[str, Any]:
    """The plain data in ``beside``, without optimizer states and objects."""
    budget = [10_000]
    return {key: value for key, value in beside.items() if _is_plain(value, 6, budget)}


def _is_plain(value: Any, depth: int, budget: list[int]) -> bool:
    """Whether ``value`` is only numbers, strings, lists and dictionaries; ``budget`` limits the number of visits."""
    budget[0] -= 1
    if budget[0] < 0 or depth < 0:
        return False
    if value is None or type(value) in (bool, int, float, str):
        return True
    if type(value) in (list, tuple):
        return all(_is_plain(item, depth - 1, budget) for item in value)
    if type(value) is dict:
        return all(type(key) is str and _is_plain(item, depth - 1, budget) for key, item in value.items())
    return False


def _from_strings(strings: Mapping[str, str]) -> dict[str, Any]:
    """Decode safetensors metadata, which is strings; ours is JSON under the key that :func:`write` uses."""
    metadata: dict[str, Any] = dict(strings)
    try:
        metadata["ulsam_deploy"] = json.loads(strings["ulsam_deploy"])
    except (KeyError, ValueError, RecursionError):
        metadata.pop("ulsam_deploy", None)
    return metadata
