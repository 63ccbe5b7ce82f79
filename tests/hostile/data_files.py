"""Files that are only data, where each command reads one: pipes, endless devices, sparse giants, damage, arrays."""

from __future__ import annotations

import io
import os
import struct
import warnings
import zipfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np

from ulsam_deploy.device.bench.result import SCHEMA

from ..ulsam_deploy.handmade import make_bundle
from ..ulsam_deploy.load import test_checkpoint_hostile as known
from .bundles import copied
from .inputs import Input

#: Wrong usage, broken, not possible here, or refused: a file that is no data is never a success.
SECONDS = 20.0
WORDS = frozenset({2, 3, 4, 6})
MODEL = "model.pt"


def _sparse(path: Path) -> None:
    path.touch()
    os.truncate(path, 5 << 30)


#: What stands in place of a file.
STAND_INS: dict[str, Callable[[Path], object]] = {
    "a pipe": lambda path: os.mkfifo(path),
    "an endless device": lambda path: path.symlink_to("/dev/zero"),
    "a link to itself": lambda path: path.symlink_to(path),
    "a sparse giant": _sparse,
    "a folder": lambda path: path.mkdir(),
    "zeros": lambda path: path.write_bytes(bytes(5000)),
    "noise": lambda path: path.write_bytes(np.random.default_rng(0).bytes(5000)),
}

#: The words of every command that reads a file, which is called ``F``.
READERS: dict[str, str] = {
    "verify --data": "verify model.bundle --data F.npz",
    "verify --key": "verify model.bundle --key F.pem",
    "verify BUNDLE": "verify F.zip",
    "verify --against": "verify --against model.pt F.onnx --no-cache",
    "bench --inputs": "bench model.bundle --target onnx --profile quick --rounds 1 --inputs F.npz",
    "bench BUNDLE": "bench F.zip",
    "export MODEL": "export F.pt --target onnx -o ../out/b --no-cache",
    "export MODEL.onnx": "export F.onnx --target onnx -o ../out/b --no-cache",
    "export MODEL.safetensors": "export F.safetensors --target onnx -o ../out/b --no-cache",
    "export --config": "export --config F.toml",
    "export --calibration": "export model.pt --target onnx --precision int8 --calibration F.npz -o ../out/b --no-cache",
    "export --calibration .npy": "export model.pt --target onnx --precision int8 --calibration F.npy -o ../out/b",
    "export --probes": "export model.pt --target onnx --probes F.npz -o ../out/b --no-cache",
    "export --budget": "export model.pt --target onnx --precision auto --budget F.toml -o ../out/b --no-cache",
    "export --recipe": "export model.pt --target onnx --recipe F.toml -o ../out/b --no-cache",
    "export --preprocessing": "export model.pt --target onnx --preprocessing F.toml -o ../out/b --no-cache",
    "lint --probes": "lint model.pt --probes F.npz --no-cache",
    "inspect": "inspect F.pt",
    "inspect .zip": "inspect F.zip",
    "pack": "pack F -o ../out/x.zip",
    "compare": "compare F.json F.json",
    "compare --budget": "compare result.json result.json --budget F.toml",
    "report": "report F.json -o ../out/page.html",
    "report FOLDER": "report history -o ../out/page.html",
    "report .zip": "report F.zip -o ../out/page.html",
    "sweep": "sweep F.toml -o ../out/s",
    "build": "build F -o ../out/e",
}
#: Arrays of the user's own may be of any size; reading and hashing them takes as long as it takes.
OWN = ("--data", "--inputs", "--calibration", "--probes")
PICTURES = {
    "verify --data": "verify model.bundle --data pictures --preprocessing unit",
    "export --calibration": "export model.pt --target onnx --precision int8 --calibration pictures --preprocessing unit"
    " -o ../out/b --no-cache",
    "lint --probes": "lint model.pt --probes pictures --preprocessing unit --no-cache",
}


def inputs(stock: Path) -> Iterator[Input]:
    """Each stand-in for each file, and damaged or lying arrays wherever arrays are read."""
    bundle = make_bundle(stock / "data.bundle", targets=("onnx",), width=16, batch=1).root
    small = stock / "small.pt"
    small.write_bytes(known.saved({"weight": __import__("torch").zeros(2, 2)}))
    for reader, words in READERS.items():
        for name, make in STAND_INS.items():
            if name == "a sparse giant" and any(option in reader for option in OWN):
                continue
            yield Input(
                "a file that is none",
                f"{reader}: {name}",
                partial(_stands_in, bundle, small, words, make),
                WORDS,
                SECONDS,
            )
    for name in ("a pipe", "an endless device", "a link to itself", "a folder"):  # others are for ssh to refuse
        words = "verify model.bundle --host nobody@127.0.0.1 --ssh-config F"
        make = partial(_stands_in, bundle, small, words, STAND_INS[name])
        yield Input("a file that is none", f"verify --ssh-config: {name}", make, WORDS, SECONDS)
    for reader, words in PICTURES.items():
        for name, make in STAND_INS.items():
            if name == "a sparse giant":
                continue
            yield Input(
                "a picture that is none",
                f"{reader}: {name}",
                partial(_picture, bundle, small, words, make),
                WORDS,
                SECONDS,
            )
    yield Input("a file that is none", "device profiles: a pipe", _profiles_pipe, WORDS, environment=_OWN)
    yield Input("a file that is none", "device profiles: an endless device", _profiles_zero, WORDS, environment=_OWN)
    for name, data in ARRAYS.items():
        for reader in ("verify --data", "bench --inputs", "export --calibration", "lint --probes"):
            words = READERS[reader]
            yield Input(
                "arrays",
                f"{reader}: {name}",
                partial(_arrays, bundle, small, words, data),
                WORDS | ODD.get(name, frozenset()),
                SECONDS,
            )


_OWN = {"ULSAM_DEPLOY_DEVICES": "own.toml"}


def _profiles_pipe(folder: Path) -> list[str]:
    os.mkfifo(folder / "own.toml")
    (folder / MODEL).write_bytes(b"")
    return ["export", MODEL, "--device", "x", "--target", "onnx"]


def _profiles_zero(folder: Path) -> list[str]:
    (folder / "own.toml").symlink_to("/dev/zero")
    (folder / MODEL).write_bytes(b"")
    return ["export", MODEL, "--device", "x", "--target", "onnx"]


def _stage(bundle: Path, small: Path, folder: Path) -> None:
    copied(bundle, folder)
    (folder / MODEL).write_bytes(small.read_bytes())
    (folder / "result.json").write_text(f'{{"schema": "{SCHEMA}"}}')


def _stands_in(bundle: Path, small: Path, words: str, make: Callable[[Path], object], folder: Path) -> list[str]:
    _stage(bundle, small, folder)
    split = words.split()
    if "history" in split:
        (folder / "history").mkdir()
        for build in ("1.json", "2.json"):
            (folder / "history" / build).write_bytes((folder / "result.json").read_bytes())
        make(folder / "history" / "3.json")
    else:
        make(folder / next(word for word in split if word == "F" or word.startswith("F.")))
    return split


def _picture(bundle: Path, small: Path, words: str, make: Callable[[Path], object], folder: Path) -> list[str]:
    _stage(bundle, small, folder)
    for place in ("a", "b"):
        (folder / "pictures" / place).mkdir(parents=True)
    make(folder / "pictures" / "a" / "one.png")
    make(folder / "pictures" / "b" / "two.png")
    if "--data" not in words:
        make(folder / "pictures" / "one.png")
    return words.split()


def _arrays(bundle: Path, small: Path, words: str, make: Callable[[], bytes], folder: Path) -> list[str]:
    _stage(bundle, small, folder)
    (folder / "F.npz").write_bytes(make())
    return words.split()


def npy(header: str, data: bytes = b"", version: bytes = b"\x01\x00") -> bytes:
    """An ``.npy`` with this header."""
    text = header.encode("latin1")
    text += b" " * (-(len(text) + 11) % 64) + b"\n"
    return b"\x93NUMPY" + version + struct.pack("<H", len(text)) + text + data


def _packed(members: dict[str, bytes], kind: int = zipfile.ZIP_STORED, twice: str = "") -> bytes:
    stream = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(stream, "w", kind) as archive:
        warnings.simplefilter("ignore", UserWarning)  # a duplicate name is one case
        for name, data in members.items():
            archive.writestr(name, data)
        if twice:
            archive.writestr(twice, members[twice])
    return stream.getvalue()


def _zeros_bomb() -> bytes:
    """4 GiB of zeros in some MB."""
    stream = io.BytesIO()
    with (
        zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
        archive.open("x.npy", "w", force_zip64=True) as member,
    ):
        member.write(npy("{'descr': '|u1', 'fortran_order': False, 'shape': (4294967296,)}"))
        block = bytes(1 << 24)
        for _ in range(256):
            member.write(block)
    return stream.getvalue()


def _flipped(data: bytes) -> bytes:
    place = data.index(b"\x93NUMPY") + 140
    return data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]


def _saved(array: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def _head(shape: str, kind: str = "<f4") -> str:
    return f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}}}"


def _both(x: bytes, kind: int = zipfile.ZIP_STORED) -> bytes:
    """``x`` and its labels, so that it is read by each command."""
    return _packed({"x.npy": x, "labels.npy": _TOLD}, kind)


_WHOLE, _TOLD = _saved(np.zeros((4, 16), np.float32)), _saved(np.arange(4))
#: Archives of arrays that lie, by name.
ARRAYS: dict[str, Callable[[], bytes]] = {
    "2^31 rows": lambda: _both(npy(_head("(2147483648, 16)"), bytes(64))),
    "2^62 rows of nothing": lambda: _both(npy(_head("(4611686018427387904, 0)"))),
    "brackets": lambda: _both(npy("(" * 6000)),
    "a shape of brackets": lambda: _both(npy(_head("(" * 200 + ")" * 200), bytes(64))),
    "no shape": lambda: _both(npy("{'descr': '<f4', 'fortran_order': False}")),
    "a shape of words": lambda: _both(npy(_head("('a',)"))),
    "a negative shape": lambda: _both(npy(_head("(-1, 16)"), bytes(64))),
    "a type of objects": lambda: _both(npy(_head("(1,)", "|O"), bytes(8))),
    "a type of fields": lambda: _both(npy(_head("(4,)").replace("'<f4'", "[('a', '<f4')]"), bytes(16))),
    "a type of words": lambda: _both(npy(_head("(4, 16)", "<U4"), bytes(1024))),
    "a type of dates": lambda: _both(npy(_head("(4, 16)", "<M8[s]"), bytes(512))),
    "a type of 2 GiB": lambda: _both(npy(_head("(9,)", "|V2147483647"))),
    "complex numbers": lambda: _both(npy(_head("(4, 16)", "<c8"), bytes(512))),
    "no numbers": lambda: _both(npy(_head("(4, 16)"), np.full(64, np.nan, "<f4").tobytes())),
    "65 axes": lambda: _both(npy(_head("(" + "1," * 65 + ")"), bytes(4))),
    "version 9": lambda: _both(npy(_head("(4, 16)"), bytes(256), b"\x09\x00")),
    "an npz inside": lambda: _both(_packed({"x.npy": _WHOLE})),
    "a member that is no array": lambda: _packed({"x.npy": _WHOLE, "labels.npy": _TOLD, "readme.txt": b"hello"}),
    "an array twice": lambda: _packed({"x.npy": _WHOLE, "labels.npy": _TOLD}, twice="x.npy"),
    "a name with escapes": lambda: _packed({"\x1b[2J\n::error::x.npy": _WHOLE, "labels.npy": _TOLD}),
    "no members": lambda: _packed({}),
    "4 GiB of zeros": _zeros_bomb,
    "lzma": lambda: _both(_WHOLE, zipfile.ZIP_LZMA),
    "a wrong checksum": lambda: _flipped(_both(_WHOLE)),
    "cut": lambda: _both(_WHOLE)[:-60],
}

#: Arrays that are as good as others to some commands: one input may have any name, and time does not depend on numbers.
ODD = {
    "a name with escapes": frozenset({0, 1, 5}),
    "no numbers": frozenset({0, 5}),
    "lzma": frozenset({0, 1, 5}),
}
