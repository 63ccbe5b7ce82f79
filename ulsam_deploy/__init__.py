"""Train in PyTorch, ship to the edge, with proof: the export toolchain for compact CNNs with ULSAM attention."""

from __future__ import annotations

import os
import sys
from importlib import import_module
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ulsam_deploy._version import __version__

if TYPE_CHECKING:
    from ulsam_deploy.api import Session, export, open, verify
    from ulsam_deploy.device.bundle import Bundle
    from ulsam_deploy.device.errors import CheckFailedError, UlsamError
    from ulsam_deploy.device.verification import Verification
    from ulsam_deploy.exporting.budget import Budget

# As soon as ONNX Runtime 1.31 is imported, which onnxsim does as well, it sends usage data to its maker and writes an
# identifier to the home folder. Only this variable prevents that. To allow it, set the variable to 0.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

_WINGS = ("models", "exporters", "runtimes")
_HERE = Path(__file__).parent


class _CloneFinder:
    """Finds the wings of a clone, which are next to this package and not in it; it finds nothing else there."""

    @staticmethod
    def find_spec(name: str, *_path: object) -> ModuleSpec | None:
        package, _, wing = name.rpartition(".")
        return PathFinder.find_spec(name, [str(_HERE.parent)]) if package == __name__ and wing in _WINGS else None


# In a clone, Python imports this package and not the one that pip installed: the clone must be complete by itself.
if all((_HERE.parent / wing).is_dir() and not (_HERE / wing).is_dir() for wing in _WINGS):
    sys.meta_path.append(_CloneFinder)

__all__ = [
    "Budget",
    "Bundle",
    "CheckFailedError",
    "Session",
    "UlsamError",
    "Verification",
    "__version__",
    "export",
    "open",
    "verify",
]


#: The module in which each name is defined.
_PLACES = {
    "Budget": "exporting.budget",
    "Bundle": "device.bundle",
    "CheckFailedError": "device.errors",
    "Session": "api",
    "UlsamError": "device.errors",
    "Verification": "device.verification",
    "export": "api",
    "open": "api",
    "verify": "api",
}


def __getattr__(name: str) -> Any:
    """Import the API on first use: importing this package costs nothing and needs no engine."""
    if name in _PLACES:
        return getattr(import_module(f"ulsam_deploy.{_PLACES[name]}"), name)
    raise AttributeError(f"module 'ulsam_deploy' has no attribute '{name}'")


def __dir__() -> list[str]:
    """The public names; without it, a shell completes only names that were used before."""
    return sorted(__all__)
