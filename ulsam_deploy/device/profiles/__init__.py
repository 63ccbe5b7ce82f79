"""Device profiles, selected by ``--device NAME``. The data is in ``devices.toml``; users can add a file of their own.

Standard library only.
"""

from __future__ import annotations

import os
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from ulsam_deploy.device import toml
from ulsam_deploy.device.bench.identity import Identity
from ulsam_deploy.device.errors import UnavailableError, UsageError
from ulsam_deploy.device.profiles.profile import (
    ArmProfile,
    BoardLimits,
    Device,
    Release,
    TensorRTProfile,
    decode_profile,
    read_profiles,
)
from ulsam_deploy.device.spelling import unknown

__all__ = [
    "ArmProfile",
    "BoardLimits",
    "Device",
    "Release",
    "TensorRTProfile",
    "check_dla",
    "device",
    "devices",
    "identities",
    "own_profiles",
]

_SHIPPED = "devices.toml"


def own_profiles() -> Path:
    """The path of the user's own profiles.

    ``$ULSAM_DEPLOY_DEVICES``, else ``ulsam-deploy/devices.toml`` in the user's configuration folder
    (``$XDG_CONFIG_HOME`` or ``~/.config``).
    """
    chosen = os.environ.get("ULSAM_DEPLOY_DEVICES")
    if chosen:
        return Path(chosen)
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config", "ulsam-deploy", _SHIPPED)


def devices() -> dict[str, Device]:
    """Every profile by name: the shipped ones in the order of the file, then the user's own.

    Raises a :class:`UsageError` that names the file and the key if the user's own file isn't valid.
    """
    shipped, known = _shipped()
    own = own_profiles()
    if "ULSAM_DEPLOY_DEVICES" not in os.environ and not own.is_file():
        return dict(known)
    tables = read_profiles(toml.read(own), str(own), shipped)
    added = {name: table for name, table in tables.items() if name not in shipped}
    return {**known, **{name: decode_profile(name, table, str(own)) for name, table in added.items()}}


@cache
def _shipped() -> tuple[dict[str, Any], dict[str, Device]]:
    """The shipped profiles as tables and as objects."""
    text = files(__package__).joinpath(_SHIPPED).read_text(encoding="utf-8")
    tables = read_profiles(toml.parse(text, _SHIPPED), _SHIPPED)
    return tables, {name: decode_profile(name, table, _SHIPPED) for name, table in tables.items()}


def device(name: str) -> Device:
    """The profile called ``name``; raises a :class:`UsageError` that lists the known ones if there is none."""
    known = devices()
    if name not in known:
        jetpack5 = "; JetPack 5 is not supported (its Python is 3.8)" if name.endswith("jp5") else ""
        raise unknown(f"no device profile is called '{name}'{jetpack5}", name, known)
    return known[name]


def identities() -> dict[str, Identity]:
    """What proves a machine to be a device, for every profile that states it; raises as :func:`devices` does."""
    return {name: found.identity for name, found in devices().items() if found.identity}


def check_dla(name: str, precision: str, batch: int | None) -> None:
    """Check that a network may be exported for the DLA of the device ``name``.

    Raises :class:`UnavailableError` if the device or its TensorRT has none, :class:`UsageError` if the device is not
    given, the batch is dynamic or a DLA does not compute in the precision.
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
