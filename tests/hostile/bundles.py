"""Bundles as folder and as archive: members too many, missing, doubled, linked, altered; manifests that lie."""

from __future__ import annotations

import copy
import hashlib
import json
import os
import shutil
import warnings
import zipfile
from collections.abc import Callable, Iterator
from functools import partial
from itertools import cycle
from pathlib import Path
from typing import Any

from ulsam_deploy.device.bundle import MANIFEST, SIGNATURE, pack, read_bundle

from ..ulsam_deploy.device.bundle import test_hostile as known
from ..ulsam_deploy.device.bundle.full import make_full
from ..ulsam_deploy.handmade import make_bundle
from .inputs import Input

COMMANDS = (["verify"], ["pack"])
#: Whatever reads a manifest; they take turns, one a lie.
READERS = (["verify"], ["inspect"], ["report", "-o", "../out/page.html"])
#: One of each type that JSON has, and what text can do.
STRANGE: tuple[Any, ...] = (
    None,
    True,
    -1,
    1e308,
    1 << 62,
    "",
    "../x",
    "/etc/passwd",
    "\x1b[2J",
    [],
    {},
    [[]],
    {"a": {}},
)
GOLDENS: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda data: b"",
    "text": lambda data: b"golden",
    "cut": lambda data: data[: len(data) // 2],
    "objects": lambda data: _npz(meta=None),
    "bomb": lambda data: _bomb(),
    "no meta": lambda data: _npz(x=0),
    "a flipped byte": lambda data: data[:90] + bytes([data[90] ^ 255]) + data[91:],
}


def copied(bundle: Path, folder: Path) -> Path:
    """A copy of ``bundle`` in ``folder``."""
    return Path(shutil.copytree(bundle, folder / "model.bundle"))


def resealed(root: Path, name: str, data: bytes) -> None:
    """Replace a member and let the manifest fit it."""
    (root / name).write_bytes(data)
    plain = json.loads((root / MANIFEST).read_text())
    records = [*(file for one in plain["artifacts"] for file in one["files"]), plain["golden"], *plain["extras"]]
    for record in (record for record in records if record["path"] == name):
        record.update(sha256=hashlib.sha256(data).hexdigest(), size=len(data))
    (root / MANIFEST).write_text(json.dumps(plain))


def inputs(stock: Path) -> Iterator[Input]:
    """Everything that a stranger can do to a bundle."""
    bundle = make_bundle(stock / "dense.bundle", width=16, batch=1).root
    archive = pack(read_bundle(bundle), stock / "dense.zip")
    for words in COMMANDS:
        for name, spoil in FOLDERS.items():
            yield Input("bundle folder", f"{words[0]}: {name}", partial(_folder, bundle, spoil, words))
        for name, change in ARCHIVES.items():
            yield Input("bundle archive", f"{words[0]}: {name}", partial(_archive, archive, change, words))
    for place in range(0, archive.stat().st_size, 256):
        yield Input("bundle archive", f"cut at {place}", partial(_cut, archive, place))
    for name, make in GOLDENS.items():
        yield Input("golden set", name, partial(_golden, bundle, make))
    full = make_full(stock / "full.bundle").root
    plain = json.loads((full / MANIFEST).read_text())
    for (name, changed), words in zip(lies(plain), cycle(READERS)):
        yield Input("manifest", f"{words[0]}: {name}", partial(_manifest, full, changed, words))
    for name, text in TEXTS.items():
        for words in READERS:
            yield Input("manifest", f"{words[0]}: {name}", partial(_manifest, full, text, words))


def _folder(bundle: Path, spoil: Callable[[Path], object], words: list[str], folder: Path) -> list[str]:
    root = copied(bundle, folder)
    spoil(root)
    return [*words, root.name, *(["--output", "../out/out.zip"] if words == ["pack"] else [])]


def _archive(archive: Path, change: Callable[[Path], object], words: list[str], folder: Path) -> list[str]:
    path = Path(shutil.copy(archive, folder / "model.zip"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a duplicate name is the point
        change(path)
    return [*words, path.name, *(["--output", "../out/out.zip"] if words == ["pack"] else [])]


def _cut(archive: Path, place: int, folder: Path) -> list[str]:
    (folder / "model.zip").write_bytes(archive.read_bytes()[:place])
    return ["verify", "model.zip"]


def _golden(bundle: Path, make: Callable[[bytes], bytes], folder: Path) -> list[str]:
    root = copied(bundle, folder)
    resealed(root, "golden.npz", make((root / "golden.npz").read_bytes()))
    return ["verify", root.name]


def _manifest(bundle: Path, content: Any, words: list[str], folder: Path) -> list[str]:
    root = copied(bundle, folder)
    data = content if isinstance(content, bytes) else json.dumps(content).encode()
    (root / MANIFEST).write_bytes(data)
    return [words[0], root.name, *words[1:]]


def _repacked(change: Any, path: Path) -> None:
    known.repack(path, change)


def _append(path: Path, name: str, data: bytes = b"x", mode: int = 0o100644) -> None:
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(known.stored(name, mode), data)


def _bytes_of(root: Path, name: str, change: Callable[[bytes], bytes]) -> None:
    (root / name).write_bytes(change((root / name).read_bytes()))


def _link(root: Path, name: str) -> None:
    """A link to a file outside that even has the right content."""
    outside = root.parents[1] / "outside" / "ablation"
    shutil.copy(root / name, outside)
    (root / name).unlink()
    (root / name).symlink_to(outside)


FOLDERS: dict[str, Callable[[Path], object]] = {
    "extra file": lambda root: (root / "onnx/evil.so").write_bytes(b"x"),
    "extra Python": lambda root: (root / "numpy.py").write_text("open('marker-of-code-that-ran', 'w')"),
    "extra empty folder": lambda root: (root / "more").mkdir(),
    "extra hidden file": lambda root: (root / ".x").touch(),
    "missing file": lambda root: (root / "openvino/model.bin").unlink(),
    "missing folder": lambda root: shutil.rmtree(root / "onnx"),
    "longer": lambda root: _bytes_of(root, "golden.npz", lambda data: data + b"!"),
    "empty": lambda root: _bytes_of(root, "golden.npz", lambda data: b""),
    "one bit": lambda root: _bytes_of(root, "onnx/model.onnx", lambda data: data[:-1] + bytes([data[-1] ^ 1])),
    "link to a file": lambda root: _link(root, "onnx/model.onnx"),
    "link to the golden set": lambda root: _link(root, "golden.npz"),
    "manifest is a link": lambda root: _link(root, MANIFEST),
    "pipe": lambda root: known.swap_for_pipe(root / "golden.npz"),
    "folder for a file": lambda root: known.swap_for_folder(root / "golden.npz"),
    "manifest is a pipe": lambda root: known.swap_for_pipe(root / MANIFEST),
    "manifest is huge": lambda root: os.truncate(root / MANIFEST, 17 << 20),
    "signature is a link": lambda root: (root / SIGNATURE).symlink_to("/etc/passwd"),
    "signature is huge": lambda root: (root / SIGNATURE).write_bytes(bytes(2 << 20)),
    "signature is a pipe": lambda root: os.mkfifo(root / SIGNATURE),
}

ARCHIVES: dict[str, Callable[[Path], object]] = {
    **{name: partial(_repacked, change) for name, (change, _) in known.ARCHIVES.items()},
    "twice": lambda path: _append(path, "golden.npz"),
    "manifest twice": lambda path: _append(path, MANIFEST, b"{}"),
    "drive": lambda path: _append(path, "C:\\evil"),
    "backslashes": lambda path: _append(path, "..\\..\\evil"),
    "nul": lambda path: _append(path, "golden.npz\0.txt"),
    "other case": lambda path: _append(path, "GOLDEN.npz"),
    "link out": lambda path: _append(path, "onnx/model.onnx2", b"/etc/passwd", 0o120777),
    "bomb": lambda path: _deflated(path, bytes(1 << 26)),
    "text": lambda path: path.write_bytes(b"PK no more"),
    "only an end": lambda path: path.write_bytes(b"PK\x05\x06" + bytes(18)),
}  # fmt: skip


def _deflated(path: Path, data: bytes) -> None:
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("bomb", data)


def _npz(**arrays: Any) -> bytes:
    import io

    import numpy as np

    class Runs:
        def __reduce__(self) -> Any:
            return exec, ("open('marker-of-code-that-ran', 'w')",)

    stream = io.BytesIO()
    made = {name: np.array([Runs()], dtype=object) if value is None else np.zeros(3) for name, value in arrays.items()}
    np.savez(stream, allow_pickle=True, **made)
    return stream.getvalue()


def _bomb() -> bytes:
    """An archive whose directory promises 3 GiB."""
    data = bytearray(_npz(meta=0))
    entry = data.rindex(b"PK\x01\x02")
    data[entry + 24 : entry + 28] = (3 << 30).to_bytes(4, "little")
    return bytes(data)


#: Objects whose keys are names: one more or less is in order there.
NAMES = (
    "config", "details", "engines", "extra", "floors", "layer_precisions", "layers", "left_out", "lint", "retention",
    "lowerings", "models", "network_layers", "operators", "toolchain", "trtexec", "types",
)  # fmt: skip
#: Of these, the ones whose values may be of any type without parts.
SCALARS = ("config", "details", "extra")


def lies(plain: Any) -> Iterator[tuple[str, Any]]:
    """The manifest with, at every place, a key more, a key less, and a value of another type."""
    for route in _routes(plain):
        here = _at(plain, route)
        if isinstance(here, dict) and not {*route[-1:]} & {*NAMES}:
            yield f"unknown key at {_words(route)}", _changed(plain, route, {**here, "modle": 1})
            for key in here:
                yield (
                    f"no {key} at {_words(route)}",
                    _changed(plain, route, {k: v for k, v in here.items() if k != key}),
                )
        if route and not set(route[:-1]) & set(SCALARS):
            # A kind of its own each, so that nothing but the type is wrong.
            strange = next(value for value in STRANGE if type(value) is not type(here) and value is not None)
            yield f"another type at {_words(route)}", _changed(plain, route, strange)
            if isinstance(here, str) and (route[-1] in ("sha256", "schema") or _is_file(route)):
                for value in STRANGE[5:9]:
                    yield f"{value!a} at {_words(route)}", _changed(plain, route, value)


def _is_file(route: tuple[Any, ...]) -> bool:
    """Whether a place holds the name of a member; other paths are those of modules."""
    return route[-1] == "path" and bool({"files", "golden", "extras"} & set(route))


def _routes(plain: Any, route: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield route
    if isinstance(plain, dict):
        for key, value in plain.items():
            yield from _routes(value, (*route, key))
    elif isinstance(plain, list):
        for index, value in enumerate(plain):
            yield from _routes(value, (*route, index))


def _at(plain: Any, route: tuple[Any, ...]) -> Any:
    for step in route:
        plain = plain[step]
    return plain


def _changed(plain: Any, route: tuple[Any, ...], value: Any) -> Any:
    if not route:
        return value
    whole = copy.deepcopy(plain)
    _at(whole, route[:-1])[route[-1]] = value
    return whole


def _words(route: tuple[Any, ...]) -> str:
    return "$" + "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in route)


TEXTS: dict[str, bytes] = {
    "empty": b"", "a list": b"[]", "nothing": b"{}", "no JSON": b"{", "NaN": b'{"run": NaN}', "deep": b"[" * 200_000,
    "a key twice": b'{"run": {}, "run": {}}', "another encoding": '{"é": 1}'.encode("utf-16"), "zeros": bytes(5000),
}  # fmt: skip
