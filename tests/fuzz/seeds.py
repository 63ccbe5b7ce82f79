"""Writes the seed corpus anew: ``python -m tests.fuzz.seeds``. Small sound files, beside earlier finds."""

from __future__ import annotations

import io
import json
import tempfile
from pathlib import Path

import numpy as np

from ulsam_deploy.device.bundle import MANIFEST, pack, read_bundle
from ulsam_deploy.device.findings import Step
from ulsam_deploy.device.maps import Maps
from ulsam_deploy.device.profiles import __file__ as devices
from ulsam_deploy.exporting.options import Recipe
from ulsam_deploy.exporting.search.recipes import Recipes, recipes_text

from ..hostile.onnx_files import external
from ..ulsam_deploy.device.bundle.conftest import make_bundle as make_empty
from ..ulsam_deploy.device.bundle.test_signature import SECRET, envelope, public, statement
from ..ulsam_deploy.handmade import make_bundle
from . import commands
from .parsers import SEEDS


def write(kind: str, name: str, data: bytes) -> None:
    """One seed."""
    path = SEEDS / kind / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def main() -> None:
    """All of them."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        dense = make_bundle(folder / "dense.bundle", targets=("onnx",), width=4, batch=1).root
        empty = make_empty(folder / "empty.bundle")
        pack(empty, folder / "empty.zip")
        write("archive", "empty.zip", (folder / "empty.zip").read_bytes())
        write("onnx", "dense.onnx", (dense / "onnx" / "model.onnx").read_bytes())
        (folder / "cwd").mkdir()
        external("parent", folder / "cwd", nested=True)
        write("locations", "nested.onnx", (folder / "cwd" / "model.onnx").read_bytes())
        write("golden", "dense.npz", (dense / "golden.npz").read_bytes())
        for root in (dense, empty.root):
            write("manifest", f"{root.stem}.json", (root / MANIFEST).read_bytes())
        assert read_bundle(dense)
        small = np.full((1, 2, 3, 3), 1 / 9, np.float32)
        step = Step("softmax", "1x2x9", (-1,))
        Maps(("a",), {"f": (2, 3, 3)}, {"f": small}, (step,), {"onnx fp32": {"f": small}}, {"x": "no"}).save(
            folder / "m"
        )
        write("maps", "maps.npz", (folder / "m").read_bytes())
        for kind, files in commands.seeds(folder).items():
            for name, data in files.items():
                write(kind, name, data)
        write("compare_answers", "verify.json", commands.answer(dense))
        _checkpoints()
        _arrays(folder)
        write("signature", "signed.json", json.dumps(envelope(statement(empty.root), 1)).encode())
    for kind, name in (("golden", "dense"), ("maps", "maps")):
        with np.load(SEEDS / kind / f"{name}.npz") as file:
            write(f"{kind}_meta", f"{name}.json", file["meta"].tobytes())
    write("key", "p256.pem", public(SECRET).pem.encode())
    write(
        "settings",
        "words.toml",
        b'[export]\nMODEL = "m.pt"\ntarget = "onnx"\nbatch = 4\ninput = ["3x8x8"]\njson = true\n',
    )
    write("results", "sound.json", (SEEDS / "report_result" / "sound.json").read_bytes())
    write("devices", "devices.toml", (Path(devices).parent / "devices.toml").read_bytes())
    write("budget", "budget.toml", b'[budget]\ndrop = 1.0\nerror = 0.1\nretention = 0.9\nsize = "2.5 MB"\n')
    write(
        "gate", "budget.toml", b'[[budget]]\ndevice = "*"\ntarget = "onnx"\nmax_p90_ms = 9.5\nmax_first_percent = 5.0\n'
    )
    recipe = Recipe("fp32", (), (("16x7x7 / 4", "take"),))
    write("recipe", "recipe.toml", recipes_text(Recipes("0" * 64, {"onnx": recipe})).encode())
    chosen = b'channels = "RGB"\nmean = [0.5, 0.5, 0.5]\nstd = [0.2, 0.2, 0.2]\nshorter_side = 9\n'
    write("preprocessing", "preprocessing.toml", chosen)


def _checkpoints() -> None:
    """The three formats, small."""
    import safetensors.torch
    import torch

    tensors = {"conv.weight": torch.ones(2, 3), "bn.running_mean": torch.zeros(2, dtype=torch.float64)}
    for name, how in {"zip.pt": {}, "legacy.pt": {"_use_new_zipfile_serialization": False}}.items():
        stream = io.BytesIO()
        torch.save({"state_dict": tensors, "epoch": 3}, stream, **how)
        write("checkpoint", name, stream.getvalue())
    write("checkpoint", "safe.pt", safetensors.torch.save(tensors, {"name": "x"}))


def _arrays(folder: Path) -> None:
    from PIL import Image

    samples = np.zeros((2, 2, 2), np.float32)
    for kind, more in {"inputs": {}, "labelled": {"labels": np.array([1, 3])}}.items():
        np.savez(folder / "x.npz", x=samples, **more)
        write(kind, "two.npz", (folder / "x.npz").read_bytes())
    picture = Image.fromarray(np.arange(300, dtype=np.uint8).reshape(10, 10, 3))
    for name in ("PNG", "JPEG", "BMP", "GIF", "WEBP"):
        stream = io.BytesIO()
        picture.save(stream, name)
        write("picture", f"small.{name.lower()}", stream.getvalue())


if __name__ == "__main__":
    main()
