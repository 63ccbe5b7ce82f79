"""Our own commands against the user's files: outputs in bundles and on devices, full streams, little memory."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path

from ..ulsam_deploy.handmade import make_bundle
from .bundles import copied
from .inputs import Input
from .trust import known_weights
from .words import _made

NOT_DONE = frozenset({2, 3, 4})
FINE = frozenset({0, 1, 2, 3, 4, 5})
LONG = "n" * 300

_EXPORT = "export small.pt --model net:build --input 3x8x8 --target onnx --no-cache"
#: Each writes ``O``; inside a bundle none may.
WRITERS: Mapping[str, str] = {
    "report -o": "report model.bundle -o O.html",
    "bench -o": "bench model.bundle --profile quick --rounds 1 --target onnx -o O.json",
    "verify --junit": "verify model.bundle --target onnx --junit O.xml",
    "verify --sarif": "verify model.bundle --target onnx --sarif O.sarif",
    "verify --markdown": "verify model.bundle --target onnx --markdown O.md",
    "compare --junit": "compare result.json result.json --junit O.xml",
    "compare --markdown": "compare result.json result.json --markdown O.md",
    "export -o": f"{_EXPORT} -o O",
    "export --junit": f"{_EXPORT} -o ../out/b --junit O.xml",
    "export --save-config": f"{_EXPORT} --dry-run --save-config O.toml",
    "pack -o": "pack model.bundle -o O.zip",
    "pack --runner": "pack --runner -o O.pyz",
    "new -o": "new mobilenet_v1 --width 0.25 --classes 4 --input 3x32x32 -o O.pt",
    "verify --reproduce": "verify --against small.pt model.bundle/onnx/model.onnx --model net:build --input 3x8x8"
    " --reproduce O --no-cache",
    "sweep -o": "sweep sweep.toml -o O",
    "build -o": "build kit -o O",
}
#: Commands that print much, whose output cannot be written.
PRINTERS: Mapping[str, str] = {
    "verify": "verify model.bundle --target onnx",
    "verify --json": "verify model.bundle --target onnx --json", "inspect": "inspect model.bundle", "cache": "cache",
    "new --list": "new --list", "--help": "--help", "export --help": "export --help", "--version": "--version",
    "an error": "inspect none.pt", "an error --json": "inspect none.pt --json",
    "compare": "compare result.json result.json",
}  # fmt: skip
NET = "from torch import nn\nbuild = lambda: nn.Sequential(nn.Conv2d(3, 2, 3), nn.Flatten(), nn.Linear(72, 3))\n"


def inputs(stock: Path) -> Iterator[Input]:
    """Each output in each place where it must not be, then the machine's own limits."""
    bundle = make_bundle(stock / "own.bundle", targets=("onnx",), width=16, batch=1).root
    for name, words in WRITERS.items():
        places = {
            "inside the bundle": "model.bundle/x",
            "deep inside the bundle": "model.bundle/onnx/x",
            "a link into the bundle": "link/x",
            "a very long name": LONG,
            "a name of many folders": "/".join(["d"] * 2200),
            "a folder": "folder",
        }
        if name == "sweep -o":
            del places["a folder"]  # its results go into a folder that is there
        for place, value in places.items():
            yield Input(
                "an output that must not be", f"{name}: {place}", partial(_writes, bundle, words, value, ""), NOT_DONE
            )
        for device, codes in {"/dev/full": NOT_DONE, "/dev/zero": FINE, "/dev/null": FINE}.items():
            make = partial(_writes, bundle, words, device, "!")
            yield Input("an output on a device", f"{name}: {device}", make, codes)
        make = partial(_writes, bundle, words, "pipe", "!")
        yield Input("an output on a device", f"{name}: a pipe that nobody reads", make, NOT_DONE)
    for name, words in PRINTERS.items():
        for stream in (1, 2):
            yield Input(
                "a full stream", f"{name}: {stream}", partial(_prints, bundle, words),
                frozenset({3}) if stream == 1 and "error" not in name else FINE, full={stream: "/dev/full"},
            )  # fmt: skip
        yield Input(
            "a full stream",
            f"{name}: both",
            partial(_prints, bundle, words),
            frozenset({2, 3}),
            full={1: "/dev/full", 2: "/dev/full"},
        )
    for name, words in {**PRINTERS, **{n: w.replace("O", "../out/x") for n, w in WRITERS.items()}}.items():
        yield Input("little memory", name, partial(_prints, bundle, words), FINE, memory=_LITTLE, writes=True)


_LITTLE = 3 << 29


def _writes(bundle: Path, words: str, place: str, exactly: str, folder: Path) -> list[str]:
    _stage(bundle, folder)
    split = words.split()
    at = next(number for number, word in enumerate(split) if word == "O" or word.startswith("O."))
    split[at] = place if exactly or place == "folder" else place + split[at][1:]
    return split


def _prints(bundle: Path, words: str, folder: Path) -> list[str]:
    _stage(bundle, folder)
    return words.split()


def _stage(bundle: Path, folder: Path) -> None:
    copied(bundle, folder)
    (folder / "folder").mkdir()
    (folder / "folder" / "thesis.tex").write_text("years of work")
    (folder / "link").symlink_to("model.bundle", target_is_directory=True)
    known_weights(folder / "small.pt")
    (folder / "net.py").write_text(NET)
    (folder / "result.json").write_text(_made().to_json())
    (folder / "sweep.toml").write_text('checkpoints = ["small.pt"]\ntargets = ["onnx"]\n')
    os.mkfifo(folder / "pipe")
    (folder / "kit").mkdir()
    (folder / "kit" / "build.json").write_text("{}")
