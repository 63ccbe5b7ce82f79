"""Checkpoints: pickles that run code by each known route, programs in disguise, bombs, tensors that lie."""

from __future__ import annotations

import os
import pickle
import struct
import zipfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from ..ulsam_deploy.load import test_checkpoint_hostile as known
from .inputs import Input

#: The names under which programs are passed off as weights.
DISGUISES = ("model.pt", "model.pth", "model.bin", "model.safetensors", "model.ckpt")


def inputs() -> Iterator[Input]:
    """The corpus of the reader's own tests, and programs under every name that weights go by."""
    for name, data in known.FILES.items():
        yield Input("checkpoint", name, partial(export, data=data, name="model.pt"))
    programs = {"TorchScript": known.scripted(), "pt2": known.exported(), "pickle": known.PROGRAMS["os.system"]}
    for kind, data in programs.items():
        for disguise in (*DISGUISES, "model.pt2"):
            yield Input("disguised program", f"{kind} as {disguise}", partial(export, data=data, name=disguise))
    for name, data in damaged().items():
        yield Input("weights that are not", name, partial(inspect, data=data))
    for name, make in (("a pipe", os.mkfifo), ("an endless device", lambda path: path.symlink_to("/dev/zero"))):
        yield Input("weights that are not", f"a key that is {name}", partial(_signed, make), frozenset({2}), 20.0)


def export(folder: Path, data: bytes, name: str) -> list[str]:
    """``ulsam-deploy export`` of a file with this content."""
    (folder / name).write_bytes(data)
    return ["export", name, "--target", "onnx", "--output", "../out/out.bundle", "--no-cache"]


def inspect(folder: Path, data: bytes) -> list[str]:
    """``ulsam-deploy inspect`` of a file with this content."""
    (folder / "model.pt").write_bytes(data)
    return ["inspect", "model.pt"]


def _signed(make: Callable[[Path], object], folder: Path) -> list[str]:
    from ..ulsam_deploy.handmade import make_bundle

    make_bundle(folder / "model.bundle", targets=("onnx",), width=4, batch=1)
    make(folder / "KEY.pem")
    return ["verify", "model.bundle", "--key", "KEY.pem"]


#: Types that only newer files have, without an operator that could compare or convert them here.
NEW = ("int1", "int2", "int3", "int4", "int5", "int6", "int7", "uint1", "uint2", "uint3", "uint4", "uint5", "uint6",
       "uint7", "bits8", "bits16", "bits1x8", "bits2x4", "bits4x2", "float4_e2m1fn_x2",
       "quint8", "qint8", "qint32", "complex32", "complex128")  # fmt: skip


SAVED = ("bits8", "bits16", "bits1x8", "bits2x4", "bits4x2", "float4_e2m1fn_x2", "complex64")


def damaged() -> dict[str, bytes]:
    """Weights whose archive contradicts itself, of types that cannot be computed with, with too many axes."""
    import torch

    good = known.saved({"w": torch.arange(64.0), "b": torch.zeros(2)})
    found = {f"type {name}": _typed(name) for name in NEW if hasattr(torch, name)}
    flat = torch.zeros(16, dtype=torch.uint8)
    found |= {
        f"saved as {name}": known.saved({"w": flat.view(getattr(torch, name))})
        for name in SAVED
        if hasattr(torch, name)
    }
    found |= {f"{axes} axes": _axes(axes) for axes in (65, 100, 1000)}
    found["a flipped bit in a weight"] = _flip(good, "archive/data/0")
    found["a flipped bit in the pickle"] = _flip(good, "archive/data.pkl")
    found["a wrong checksum"] = _checksum(good)
    legacy = known.saved({"w": torch.arange(64.0)}, _use_new_zipfile_serialization=False)
    found["old format, storages cut off"] = legacy[: -64 * 4]
    found["old format, half a storage"] = legacy[:-100]
    found["old format, no storages"] = _legacy(legacy, [])
    found["old format, another storage"] = _legacy(legacy, ["77"])
    found["old format, a storage twice"] = _legacy(legacy, ["0", "0"])
    return found


def _typed(name: str) -> bytes:
    """``{"w": tensor}`` whose type is ``name``, in the instructions that torch.save writes."""
    program = known.modern_tensor_program(64, (4,), (1,)).replace(
        b"ctorch._utils\n_rebuild_tensor_v2\n(", b"ctorch._utils\n_rebuild_tensor_v3\n("
    )
    program = program.replace(b"ctorch\nFloatStorage\n", b"ctorch.storage\nUntypedStorage\n")
    return known.with_pickle(
        program.replace(b"Rtr", b"Rt").replace(
            b"ccollections\nOrderedDict\n)Rt", b"ccollections\nOrderedDict\n)Rctorch\n" + name.encode() + b"\nt"
        )
    )


def _axes(count: int) -> bytes:
    return known.with_pickle(known.modern_tensor_program(16, (1,) * count, (1,) * count))


def _flip(data: bytes, member: str) -> bytes:
    """One bit of ``member`` changed in the archive, and its checksum left as it was."""
    import io

    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        entry = archive.getinfo(member)
    names, extra = struct.unpack("<HH", data[entry.header_offset + 26 : entry.header_offset + 30])
    place = entry.header_offset + 30 + names + extra + entry.file_size // 2
    return data[:place] + bytes([data[place] ^ 4]) + data[place + 1 :]


def _checksum(data: bytes) -> bytes:
    """The checksum of a storage changed, in both places where it stands."""
    import io

    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        crc = struct.pack("<I", archive.getinfo("archive/data/0").CRC)
    return data.replace(crc, bytes(4))


def _legacy(data: bytes, keys: list[str]) -> bytes:
    """The old format with another list of storages behind its object."""
    place = data.rindex(pickle.dumps([], 2)[:2], 0, len(data) - 64 * 4)
    return data[:place] + pickle.dumps(keys, 2)
