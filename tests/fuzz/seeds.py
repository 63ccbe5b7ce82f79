"""Writes the seed corpus anew: ``python -m tests.fuzz.seeds``. Small sound files, beside earlier finds."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import numpy as np

from ulsam_deploy.device.bundle import MANIFEST, pack, read_bundle
from ulsam_deploy.device.findings import Step
from ulsam_deploy.device.maps import Maps
from ulsam_deploy.device.profiles import __file__ as devices

from ..hostile.onnx_files import external
from ..ulsam_deploy.device.bundle.conftest import make_bundle as make_empty
from ..ulsam_deploy.device.bundle.test_signature import SECRET, envelope, public, statement
from ..ulsam_deploy.handmade import make_bundle
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
    write(
        "results",
        "empty.json",
        b'{"schema": "ulsam-deploy.bench/1", "measured": [{"processes": [{"samples": "", "count": 1}]}]}',
    )
    write("devices", "devices.toml", (Path(devices).parent / "devices.toml").read_bytes())


if __name__ == "__main__":
    main()
