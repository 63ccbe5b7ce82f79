"""The contents of a device profile as frozen dataclasses, and reading one from TOML. Standard library only."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ulsam_deploy.device import codec
from ulsam_deploy.device.bench.identity import Identity
from ulsam_deploy.device.errors import UsageError

_HEX = {"pattern": "0x[0-9a-f]{1,3}", "words": "a small hexadecimal number such as 0xd08"}
#: These end as arguments of apt, pip and qemu: each must be a name, and no option of theirs.
_NAME = {"pattern": r"[A-Za-z0-9][A-Za-z0-9._-]*", "words": "a name: letters, digits, '.', '_' and '-'"}
_PACKAGE = {"pattern": r"[a-z0-9][a-z0-9.+-]*[a-z0-9+]", "words": "the name of a package of the distribution"}
_WHEEL = {"pattern": r"[A-Za-z0-9][A-Za-z0-9._-]*==[0-9][A-Za-z0-9.!+]*", "words": "name==version"}
_PYTHON = {"pattern": r"3\.[0-9]{1,2}", "words": "major.minor, such as 3.11"}
_VERSION = {"pattern": r"[0-9]+(\.[0-9]+)*", "words": "a version such as 10.3"}
_TEXT = {"pattern": r"[ -~]{1,100}", "words": "one short line of plain text"}
_LIMIT = {"minimum": 0}


@dataclass(frozen=True)
class TensorRTProfile:
    """The TensorRT of a device. ``opsets``: lowest and highest ONNX opset that its parser documents.

    ``generation`` names the ``trtexec`` dialect; ``capability`` is the GPU's compute capability, empty if it varies.
    ``dla_note`` says why there is no DLA if ``dla`` is false.
    """

    version: str = field(metadata=_VERSION)
    generation: str = field(metadata=_NAME)
    capability: str = field(metadata={"pattern": r"([0-9]+\.[0-9]+)?", "words": "such as 8.7, or nothing"})
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

    python: str = field(metadata=_PYTHON)
    packages: tuple[str, ...] = field(metadata=_PACKAGE)
    tags: tuple[str, ...] = field(metadata=_NAME)
    wheels: Mapping[str, tuple[str, ...]] = field(metadata=_WHEEL)


@dataclass(frozen=True)
class ArmProfile:
    """The processor and software of an ARM board, as qemu and ``/proc/cpuinfo`` call them.

    ``machine`` is ``uname -m``; ``cpu`` is qemu's name of the processor, ``core`` its usual name; ``model`` is the
    board's own name. ``features`` are those that Linux lists on the *real* board. ``memory_mib`` is the smallest memory
    that is sold. ``releases`` maps the distribution's code name to what is installed there; ``release`` is the one that
    the board has, empty for the first.
    """

    machine: str = field(metadata={"pattern": "aarch64|armv7l", "words": "aarch64 or armv7l"})
    cpu: str = field(metadata=_NAME)
    core: str = field(metadata=_TEXT)
    model: str = field(metadata=_TEXT)
    implementer: str = field(metadata=_HEX)
    variant: str = field(metadata=_HEX)
    part: str = field(metadata=_HEX)
    revision: int = field(metadata={"minimum": 0})
    features: tuple[str, ...] = field(metadata=_NAME)
    cores: int = field(metadata={"minimum": 1, "maximum": 1024})
    memory_mib: int = field(metadata={"minimum": 1})
    page_kib: int = field(metadata={"minimum": 4})
    releases: Mapping[str, Release]
    release: str = ""


@dataclass(frozen=True)
class BoardLimits:
    """Budgets of one artifact on the device; ``None``: no limit. Size in MB, instructions in millions per run."""

    size_mb: float | None = field(default=None, metadata=_LIMIT)
    instructions_m: float | None = field(default=None, metadata=_LIMIT)


@dataclass(frozen=True)
class Device:
    """One device profile.

    ``tensorrt`` is ``None`` if there is no NVIDIA GPU, ``arm`` if it can't be emulated, ``identity`` if no machine can
    prove to be one.
    """

    name: str = field(metadata=_NAME)
    title: str = field(metadata=_TEXT)
    tensorrt: TensorRTProfile | None = None
    arm: ArmProfile | None = None
    budget: BoardLimits = BoardLimits()
    identity: Identity | None = None


_PARTS: Mapping[str, type[Any]] = {
    "tensorrt": TensorRTProfile, "arm": ArmProfile, "budget": BoardLimits, "identity": Identity,
}  # fmt: skip


def read_profiles(tables: Mapping[str, Any], source: str, base: Mapping[str, object] | None = None) -> dict[str, Any]:
    """The profiles in the TOML ``tables`` by name; ``like = "NAME"`` inherits from that table, here or in ``base``.

    Raises a :class:`UsageError` that names ``source`` if it repeats a name of ``base``, or inherits from a table that
    is not above it.
    """
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
