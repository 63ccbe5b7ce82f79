"""The contents of a device profile as frozen dataclasses, and reading one from TOML. Standard library only."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ulsam_deploy.device import codec, toml
from ulsam_deploy.device.bench.identity import Identity
from ulsam_deploy.device.errors import UsageError

_HEX = {"pattern": "0x[0-9a-f]{1,3}", "words": "a small hexadecimal number such as 0xd08"}


@dataclass(frozen=True)
class TensorRTProfile:
    """The TensorRT of a device. ``opsets``: lowest and highest ONNX opset that its parser documents.

    ``generation`` names the ``trtexec`` dialect; ``capability`` is the GPU's compute capability, empty if it varies.
    ``dla_note`` says why there is no DLA if ``dla`` is false.
    """

    version: str
    generation: str
    capability: str
    opsets: tuple[int, int]
    bf16: bool
    dla: bool
    dla_note: str = ""


@dataclass(frozen=True)
class Release:
    """What is installed on a board with one release of its operating system.

    ``python`` is major.minor; ``packages`` the distribution's; ``tags`` the wheel platforms its C library supports;
    ``wheels`` the exact requirements of each target's engine, ``tflite`` or ``onnx`` to ``name==version``.
    """

    python: str
    packages: tuple[str, ...]
    tags: tuple[str, ...]
    wheels: Mapping[str, tuple[str, ...]]


@dataclass(frozen=True)
class ArmProfile:
    """The processor and software of an ARM board, as qemu and ``/proc/cpuinfo`` call them.

    ``machine`` is ``uname -m``; ``cpu`` is qemu's name of the processor, ``core`` its usual name; ``model`` is the
    board's own name. ``features`` are those that Linux lists on the *real* board. ``memory_mib`` is the smallest memory
    that is sold. ``releases`` maps the distribution's code name to what is installed there; ``release`` is the one that
    the board has, empty for the first.
    """

    machine: str = field(metadata={"pattern": "aarch64|armv7l", "words": "aarch64 or armv7l"})
    cpu: str
    core: str
    model: str
    implementer: str = field(metadata=_HEX)
    variant: str = field(metadata=_HEX)
    part: str = field(metadata=_HEX)
    revision: int = field(metadata={"minimum": 0})
    features: tuple[str, ...]
    cores: int = field(metadata={"minimum": 1})
    memory_mib: int = field(metadata={"minimum": 1})
    page_kib: int = field(metadata={"minimum": 4})
    releases: Mapping[str, Release]
    release: str = ""


@dataclass(frozen=True)
class BoardLimits:
    """Budgets of one artifact on the device; ``None``: no limit. Size in MB, instructions in millions per run."""

    size_mb: float | None = None
    instructions_m: float | None = None


@dataclass(frozen=True)
class Device:
    """One device profile.

    ``tensorrt`` is ``None`` if there is no NVIDIA GPU, ``arm`` if it can't be emulated, ``identity`` if no machine can
    prove to be one.
    """

    name: str
    title: str
    tensorrt: TensorRTProfile | None = None
    arm: ArmProfile | None = None
    budget: BoardLimits = BoardLimits()
    identity: Identity | None = None


_PARTS: Mapping[str, type[Any]] = {
    "tensorrt": TensorRTProfile, "arm": ArmProfile, "budget": BoardLimits, "identity": Identity,
}  # fmt: skip


def read_profiles(text: str, source: str, base: Mapping[str, object] | None = None) -> dict[str, Any]:
    """The tables of a TOML ``text`` by name; ``like = "NAME"`` inherits from that table, here or in ``base``.

    Raises a :class:`UsageError` that names ``source`` if it isn't TOML, repeats a name of ``base``, or inherits from a
    table that is not above it.
    """
    tables = toml.parse(text, source)
    known: dict[str, Any] = dict(base or {})
    for name, table in tables.items():
        if not isinstance(table, dict):
            raise UsageError(f"{source}: '{name}' isn't a device", expected="[NAME] tables, one for each device")
        if name in known:
            raise UsageError(f"{source}: a device called '{name}' is there already", todo="choose another name")
        parent = table.pop("like", None)
        if parent is not None and (not isinstance(parent, str) or parent not in known):
            raise UsageError(f"{source}: '{name}' is like '{parent}', which isn't above it", expected=", ".join(known))
        known[name] = _merged(known[parent], table) if parent is not None else table
    return known


def decode_profile(name: str, table: Mapping[str, object], source: str) -> Device:
    """The :class:`Device` in ``table``; raises a :class:`UsageError` that names an unknown or missing key."""
    whole = _filled(Device, {"name": name, **table})
    for part, kind in _PARTS.items():
        if isinstance(whole[part], dict):
            whole[part] = _filled(kind, whole[part])
    return codec.decode(Device, whole, f"{source} [{name}]", UsageError)


def read_file(path: Path) -> str:
    """The text of the user's own profiles; raises :class:`UsageError` if they can't be read."""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} can't be read: {getattr(error, 'strerror', None) or error}") from error


def _merged(parent: Mapping[str, Any], child: Mapping[str, Any]) -> dict[str, Any]:
    """Merge ``child`` into ``parent``, table by table; ``child`` wins."""
    merged = dict(parent)
    for key, value in child.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = _merged(merged[key], value) if both else value
    return merged


def _filled(cls: type[Any], table: Mapping[str, Any]) -> dict[str, Any]:
    """``table`` with the defaults of ``cls`` for missing keys: the codec itself has no defaults."""
    given = [field for field in dataclasses.fields(cls) if field.default is not dataclasses.MISSING]
    return {**{field.name: codec.encode(field.default, field.name) for field in given}, **table}
