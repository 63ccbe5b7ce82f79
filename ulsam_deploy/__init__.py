"""Train in PyTorch, ship to the edge, with proof: the export toolchain for compact CNNs with ULSAM attention."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from ulsam_deploy._version import __version__

if TYPE_CHECKING:
    from ulsam_deploy.api import Session, export, open, verify

# ONNX Runtime 1.31 sends usage data to its maker and leaves an identifier in the home folder as soon as it is imported,
# which onnxsim does as well; nothing but this keeps it from that. Who wants it sets the variable to 0.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

__all__ = ["Session", "__version__", "export", "open", "verify"]


def __getattr__(name: str) -> Any:
    """Import the API on first use: importing this package costs nothing and needs no engine."""
    if name in __all__:
        from ulsam_deploy import api

        return getattr(api, name)
    raise AttributeError(f"module 'ulsam_deploy' has no attribute '{name}'")
