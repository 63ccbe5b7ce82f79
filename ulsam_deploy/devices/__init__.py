"""Device profiles, kept as data in ``devices.toml``: what stands behind ``--device NAME``. Standard library only."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from ulsam_deploy.errors import UnavailableError, UsageError

if sys.version_info >= (3, 11):
    import tomllib
else:  # pragma: no cover - the same parser under its older name
    import tomli as tomllib


@dataclass(frozen=True)
class TensorRTProfile:
    """The TensorRT of a device. ``opsets``: lowest and highest ONNX opset that its parser documents.

    ``generation`` names the ``trtexec`` dialect; ``capability`` is the GPU's compute capability, empty where it varies.
    ``dla_note`` says why there is no DLA where ``dla`` is false.
    """

    version: str
    generation: str
    capability: str
    opsets: tuple[int, int]
    bf16: bool
    dla: bool
    dla_note: str = ""


@dataclass(frozen=True)
class Device:
    """One profile. ``tensorrt`` is ``None`` where there is no NVIDIA GPU."""

    name: str
    title: str
    tensorrt: TensorRTProfile | None = None


@cache
def devices() -> dict[str, Device]:
    """Every profile by name, in the order of the file."""
    text = files(__package__).joinpath("devices.toml").read_text(encoding="utf-8")
    return {name: _device(name, entry) for name, entry in tomllib.loads(text).items()}


def device(name: str) -> Device:
    """The profile called ``name``; raises :class:`UsageError` that lists the known ones."""
    known = devices()
    if name not in known:
        jetpack5 = "; JetPack 5 is not supported (its Python is 3.8)" if name.endswith("jp5") else ""
        raise UsageError(f"no device profile is called '{name}'{jetpack5}", expected=", ".join(known))
    return known[name]


def check_dla(name: str, precision: str, batch: int | None) -> None:
    """Whether a network can be asked to run on the DLA of the device ``name``.

    Raises :class:`UnavailableError` where the device or its TensorRT has none, :class:`UsageError` when the device is
    not given, the batch is dynamic or the precision isn't one that a DLA computes in.
    """
    if not name:
        raise UsageError("--dla needs a device", expected=", ".join(_with_dla()), todo="add --device")
    profile = device(name).tensorrt
    if profile is None or not profile.dla:
        note = profile.dla_note if profile else "it has no NVIDIA GPU"
        raise UnavailableError(f"{name} has no DLA: {note}", expected=", ".join(_with_dla()), todo="leave --dla out")
    if batch is None:
        raise UsageError("a DLA has no dynamic shapes", expected="a fixed batch size", todo="use --batch 1")
    if precision == "fp32":
        raise UsageError("a DLA does not compute in fp32", expected="fp16", todo="add --precision fp16")


def _with_dla() -> list[str]:
    return [name for name, found in devices().items() if found.tensorrt and found.tensorrt.dla]


def _device(name: str, entry: dict[str, Any]) -> Device:
    profile = entry.get("tensorrt")
    found = TensorRTProfile(**{**profile, "opsets": tuple(profile["opsets"])}) if profile else None
    return Device(name, entry["title"], found)
