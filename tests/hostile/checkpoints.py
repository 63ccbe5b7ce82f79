"""Checkpoints: pickles that run code by each known route, programs in disguise, bombs, tensors that lie."""

from __future__ import annotations

from collections.abc import Iterator
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


def export(folder: Path, data: bytes, name: str) -> list[str]:
    """``ulsam-deploy export`` of a file with this content."""
    (folder / name).write_bytes(data)
    return ["export", name, "--target", "onnx", "--output", "../out/out.bundle", "--no-cache"]
