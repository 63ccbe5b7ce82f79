"""Decodes the bytes of a checkpoint file into the Python object in it: torch.save (zip or older), or safetensors.

The format is detected by content, never by name. Sizes that a file declares are checked against the file's own size
before anything is allocated, and the pickle's imports are listed before torch reads it.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import pickle
import re
import warnings
import zipfile
from collections import Counter
from collections.abc import Collection, Iterator
from typing import Any

from ulsam_deploy.device.errors import ExportError, RefusedError, UnavailableError, UsageError
from ulsam_deploy.device.invocation import extra, typed
from ulsam_deploy.device.printing import shown
from ulsam_deploy.load.checkpoint import inert, pickles
from ulsam_deploy.load.checkpoint.choosing import EXPECTED

_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_SAFETENSORS_HEADER = 100 << 20

#: The globals that a state_dict needs; fewer than torch's own list, which has constructors that allocate without limit.
_PLAIN = frozenset(
    {"collections.OrderedDict", "_codecs.encode", "builtins.set", "builtins.complex", "torch.Size", "torch.device"}
    | {
        f"torch._utils.{name}"
        for name in ("_rebuild_tensor", "_rebuild_tensor_v2", "_rebuild_tensor_v3", "_rebuild_parameter")
    }
)
_STORAGE = re.compile(r"torch\.(storage\.)?[A-Za-z0-9]+Storage")
_MEMBER = re.compile(
    r"data\.pkl|version|byteorder|\.format_version|\.storage_alignment|data/\d+|\.data/serialization_id"
)
#: Allowing one of these by name would mean trusting the whole file, so this is refused with an explanation.
_NEVER_ALONE = frozenset(
    {"builtins", "os", "posix", "nt", "sys", "subprocess", "shutil", "importlib", "runpy", "pickle", "code", "pty"}
)
_HINTS = {
    b"version https://git-lfs": "this is a Git LFS pointer: run 'git lfs pull' to get the file itself",
    b"<!DOCTYPE": "this is a web page: download the file itself",
    b"<html": "this is a web page: download the file itself",
    b"\x1f\x8b": "this is gzip-compressed: unpack it first",
    b"\x89HDF": "this is an HDF5 file (Keras): only PyTorch checkpoints can be read",
}


def decode(data: bytes, name: str, *, trust: bool, allow: Collection[str]) -> tuple[Any, dict[str, str]]:
    """Decode a checkpoint.

    Args:
        data: The bytes of the whole file.
        name: The file's name, for messages.
        trust: Allow the pickle to run any code.
        allow: The globals (``module.name``) that the pickle may use.

    Returns:
        The object and, for safetensors, its string metadata.

    Raises:
        RefusedError: Reading it would run code.
        ExportError: It is damaged or something else.
        UsageError: It needs a module, or ``allow`` names one, that is not installed.
    """
    if data[:4] == b"PK\x03\x04":
        _check_archive(data, name, trust=trust)
        return _load_torch(data, name, _archive_globals(data, name), trust=trust, allow=allow), {}
    if data[8:9] == b"{" and int.from_bytes(data[:8], "little") <= min(len(data) - 8, _SAFETENSORS_HEADER):
        return _load_safetensors(data, name)
    for magic, hint in _HINTS.items():
        if data.startswith(magic):
            raise ExportError(f"'{name}' is not a checkpoint", expected=EXPECTED, todo=hint)
    return _load_torch(data, name, _legacy_globals(data, name), trust=trust, allow=allow), {}


def broken(name: str, why: object) -> ExportError:
    """The error for a damaged or truncated file."""
    return ExportError(
        f"'{name}' cannot be read: {_short(why) or type(why).__name__}",
        expected=EXPECTED,
        todo="it may be damaged or cut short: copy or save it again",
    )


def refused(name: str, why: str, flags: str) -> RefusedError:
    """The error for a file that can only be read by trusting its author."""
    return RefusedError(
        f"'{name}' is refused: {_short(why)}",
        expected="weights only: reading a checkpoint must not run code",
        todo=f"save model.state_dict() instead, or, only if you trust whoever made this file: {_short(flags)}",
    )


def _short(text: object) -> str:
    """Make one short line of text from an untrusted file, because it is printed to a terminal."""
    line = " ".join(str(text).split())[:500]
    return shown(line)


# --- the zip that torch.save writes -----------------------------------------------------------------------------------


def _check_archive(data: bytes, name: str, *, trust: bool) -> None:
    """Refuse programs, decompression bombs and unknown members, by the archive's directory alone."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = archive.infolist()
    except (zipfile.BadZipFile, ValueError, OSError, NotImplementedError, EOFError, UnicodeDecodeError) as error:
        raise broken(name, error) from error
    names = [member.filename for member in members]
    _refuse_programs(names, name, trust=trust)
    tops = {entry.removesuffix("data.pkl") for entry in names if entry.split("/", 1)[-1] == "data.pkl"}
    if not tops:
        held = ", ".join(names[:4]) or "nothing"
        raise ExportError(f"'{name}' is a zip archive that holds {_short(held)}, not a checkpoint", expected=EXPECTED)
    if sum(member.file_size for member in members) > len(data) or any(member.compress_type for member in members):
        raise broken(name, "its members claim more bytes than the file has, or are compressed (torch.save never does)")
    top = min(tops)
    odd = [entry for entry in names if not (entry.startswith(top) and _MEMBER.fullmatch(entry[len(top) :]))]
    odd += [entry for entry, count in Counter(names).items() if count > 1]
    _check_sums(data, name)
    if odd and not trust:
        told = ", ".join(odd[:5])
        raise refused(name, f"it has members that torch.save does not write: {told}", "--trust-pickle")


def _check_sums(data: bytes, name: str) -> None:
    """Compare each member with its checksum: torch does not, and a flipped bit in a weight is a plausible weight."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            wrong = archive.testzip()
    except (zipfile.BadZipFile, ValueError, OSError, NotImplementedError, EOFError, RuntimeError) as error:
        raise broken(name, error) from error
    if wrong:
        raise broken(name, f"its member {wrong} is not what its checksum says (or torch was told to write none)")


def _refuse_programs(names: list[str], name: str, *, trust: bool) -> None:
    inner = {entry.split("/", 1)[-1] for entry in names} | set(names)
    kind = ""
    if "constants.pkl" in inner or any(entry.startswith("code/") for entry in inner):
        kind = "a TorchScript archive"
    elif {"archive_format", "serialized_exported_program.json"} & inner or any(
        entry.startswith("models/") and entry.endswith(".json") for entry in inner
    ):
        kind = "a torch.export archive (.pt2)"
    if kind and trust:
        raise ExportError(
            f"'{name}' is {kind}: a program, not a state_dict",
            expected=EXPECTED,
            todo="load it in a script of your own and torch.save its state_dict()",
        )
    if kind:
        raise refused(name, f"it is {kind}, which is a program and not weights", "take its state_dict() in a script")


def _archive_globals(data: bytes, name: str) -> frozenset[str]:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            entry = next(entry for entry in archive.namelist() if entry.split("/", 1)[-1] == "data.pkl")
            return pickles.scan(io.BytesIO(archive.read(entry))).globals
    except (zipfile.BadZipFile, ValueError, OSError, NotImplementedError, EOFError, RuntimeError) as error:
        raise broken(name, error) from error


# --- the bare pickles that torch.save wrote before 1.6 ----------------------------------------------------------------


def _legacy_globals(data: bytes, name: str) -> frozenset[str]:
    """The globals used by a file of concatenated pickles: magic number, protocol, system, object, storage keys."""
    stream = io.BytesIO(data)
    try:
        first = pickles.scan(stream)
    except ValueError as error:
        raise broken(name, "it is neither a zip archive, nor safetensors, nor a whole pickle") from error
    if first.value != _LEGACY_MAGIC:
        if first.globals:
            listed = ", ".join(sorted(first.globals)[:10])
            raise refused(
                name, f"it is a plain pickle that would import {listed}", "convert it in a script of your own"
            )
        raise ExportError(f"'{name}' is a plain pickle, not written by torch.save", expected=EXPECTED)
    try:
        parts = [pickles.scan(stream) for _ in range(4)]
    except ValueError as error:
        raise broken(name, error) from error
    # The last one lists the storages whose values follow; torch leaves any other with whatever the memory held.
    stored = parts[-1].strings
    named = {str(parts_of[2]) for parts_of in parts[-2].persistent if len(parts_of) > 2}
    if sorted(map(str, stored)) != sorted(named):
        raise broken(name, "the storages of its tensors are not those whose values it holds")
    return frozenset().union(*(part.globals for part in parts))


# --- torch.load -------------------------------------------------------------------------------------------------------


def _load_torch(data: bytes, name: str, found: frozenset[str], *, trust: bool, allow: Collection[str]) -> Any:
    """Call ``torch.load`` for weights only, unless the file needs more and ``trust`` is set; there is no fallback."""
    others = sorted(entry for entry in found if not _is_plain(entry) and entry not in allow)
    unsafe = [entry for entry in others if not inert.is_data(entry)]
    if unsafe and not trust:
        flags = " ".join(typed("--allow-global", entry) for entry in unsafe[:10])
        raise refused(name, f"its pickle would import {', '.join(unsafe[:10])}", f"{flags}, or --trust-pickle")
    try:
        if unsafe:
            return _unpickle(data, weights_only=False, trust=trust)
        with _allowed(sorted(found & set(allow))), inert.stand_ins(others):
            return inert.plain(_unpickle(data, weights_only=True, trust=trust))
    except (UsageError, RefusedError):
        raise
    except pickle.UnpicklingError as error:
        # The reason follows these words; the rest of the message is advice about torch.load.
        reason = str(error).rpartition("WeightsUnpickler error:")[2].strip() or "?"
        raise refused(name, f"it is more than weights: {reason.splitlines()[0]}", "--trust-pickle") from error
    except ModuleNotFoundError as error:
        raise UsageError(
            f"'{name}' needs the Python module '{error.name}' to be read",
            todo="run where that module can be imported, or save model.state_dict() instead",
        ) from error
    except Exception as error:  # torch raises many kinds of exceptions for a damaged file
        raise broken(name, error) from error


def _unpickle(data: bytes, *, weights_only: bool, trust: bool) -> Any:
    import torch

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # an untrusted file must not decide what is printed or raised
        try:
            return torch.load(io.BytesIO(data), map_location="cpu", weights_only=weights_only)
        except pickle.UnpicklingError:  # for example a newer pickle protocol: not unsafe, but not supported here
            if not (weights_only and trust):
                raise
            return torch.load(io.BytesIO(data), map_location="cpu", weights_only=False)


def _is_plain(entry: str) -> bool:
    import torch

    if entry in _PLAIN or _STORAGE.fullmatch(entry):
        return True
    return entry.startswith("torch.") and isinstance(getattr(torch, entry[6:], None), torch.dtype)


@contextlib.contextmanager
def _allowed(names: Collection[str]) -> Iterator[None]:
    """Allow torch's weights-only reader to use ``names`` within the context only."""
    import torch

    if not names:
        yield
        return
    with torch.serialization.safe_globals([(_resolve(entry), entry) for entry in names]):
        yield


def _resolve(entry: str) -> Any:
    """The object named ``module.name``; the user has allowed the import of its module."""
    module, _, attribute = entry.rpartition(".")
    if entry.split(".", 1)[0] in _NEVER_ALONE:
        raise RefusedError(
            f"'{entry}' cannot be allowed on its own: it gives the file the same power as running it",
            todo="--trust-pickle, only if you trust whoever made this file",
        )
    try:
        return getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise UsageError(
            f"--allow-global {entry}: {error}", expected="module.name of something that can be imported here"
        ) from error


# --- safetensors ------------------------------------------------------------------------------------------------------


def _load_safetensors(data: bytes, name: str) -> tuple[Any, dict[str, str]]:
    try:
        import safetensors
        import safetensors.torch
    except ModuleNotFoundError as error:
        raise UnavailableError(
            f"'{name}' is a safetensors file, and the package 'safetensors' is not installed",
            todo=extra("export"),
        ) from error
    try:
        tensors = safetensors.torch.load(data)
        size = int.from_bytes(data[:8], "little")
        return tensors, dict(json.loads(data[8 : 8 + size]).get("__metadata__", {}))
    except Exception as error:  # SafetensorError, or a dtype that torch does not have
        raise broken(name, error) from error
