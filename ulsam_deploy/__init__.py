"""Train in PyTorch, ship to the edge, with proof: the export toolchain for compact CNNs with ULSAM attention."""

from __future__ import annotations

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

from ulsam_deploy._version import __version__

if TYPE_CHECKING:
    from ulsam_deploy.api import Session, export, open, verify
    from ulsam_deploy.budget import Budget
    from ulsam_deploy.bundle import Bundle
    from ulsam_deploy.errors import CheckFailedError, UlsamError
    from ulsam_deploy.verification import Verification

# ONNX Runtime 1.31 sends usage data to its maker and leaves an identifier in the home folder as soon as it is imported,
# which onnxsim does as well; nothing but this keeps it from that. Who wants it sets the variable to 0.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

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
    "Budget": "budget",
    "Bundle": "bundle",
    "CheckFailedError": "errors",
    "Session": "api",
    "UlsamError": "errors",
    "Verification": "verification",
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
