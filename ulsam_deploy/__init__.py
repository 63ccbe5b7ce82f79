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

# ONNX Runtime 1.31 sends usage data to its maker and leaves an identifier in the home folder as soon as it is imported,
# which onnxsim does as well; nothing but this keeps it from that. Who wants it sets the variable to 0.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

_WINGS = ("models", "exporters", "runtimes")
_HERE = Path(__file__).parent


class _CloneFinder:
    """Finds the wings of a clone, which lie beside this package and not in it. It finds nothing else there."""

    @staticmethod
    def find_spec(name: str, *_path: object) -> ModuleSpec | None:
        package, _, wing = name.rpartition(".")
        return PathFinder.find_spec(name, [str(_HERE.parent)]) if package == __name__ and wing in _WINGS else None


# Whoever stands in a clone runs this package, not the one that pip installed: the source has to be whole by itself.
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


#: Where each name is defined.
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
    """What this package is for; without it, a shell would complete nothing that was not used before."""
    return sorted(__all__)
