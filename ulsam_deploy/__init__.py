"""Train in PyTorch, ship to the edge, with proof: the export toolchain for compact CNNs with ULSAM attention."""

from __future__ import annotations

import os
import sys
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ulsam_deploy._version import __version__

if TYPE_CHECKING:
    from ulsam_deploy.api import Session, export, open, verify

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

__all__ = ["Session", "__version__", "export", "open", "verify"]


def __getattr__(name: str) -> Any:
    """Import the API on first use: importing this package costs nothing and needs no engine."""
    if name in __all__:
        from ulsam_deploy import api

        return getattr(api, name)
    raise AttributeError(f"module 'ulsam_deploy' has no attribute '{name}'")
