"""Train in PyTorch, ship to the edge, with proof: the export toolchain for compact CNNs with ULSAM attention."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ulsam_deploy._version import __version__

if TYPE_CHECKING:
    from ulsam_deploy.api import Session, export, open, verify

__all__ = ["Session", "__version__", "export", "open", "verify"]


def __getattr__(name: str) -> Any:
    """Import the API on first use: importing this package costs nothing and needs no engine."""
    if name in __all__:
        from ulsam_deploy import api

        return getattr(api, name)
    raise AttributeError(f"module 'ulsam_deploy' has no attribute '{name}'")
