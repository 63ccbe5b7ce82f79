"""Which device profile this machine proves to be; decides whether a run here counts as measured on a device.

Standard library only; device-safe. For boards, ``runner.pyz`` contains the identities of the profiles, because a
board's Python may have no TOML parser.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, distribution

from ulsam_deploy.device import codec
from ulsam_deploy.device.bench.board import Board
from ulsam_deploy.device.bench.identity import DeviceProof, Identities, Identity, prove
from ulsam_deploy.device.errors import UlsamError

__all__ = ["IDENTITIES", "proof"]

#: A file next to the metadata in ``runner.pyz``; an installed package has the profiles themselves instead.
IDENTITIES = "identities.json"


def proof(board: Board | None = None) -> DeviceProof:
    """Which device profile ``board`` (default: this machine) proves to be, or why none."""
    try:
        known = _known()
    except UlsamError as error:  # a user's broken profile must not prevent the check of a bundle
        return DeviceProof(None, f"the device profiles can't be read: {error.found}")
    return prove(board or Board(), known)


def _known() -> Mapping[str, Identity]:
    try:
        packed = distribution("ulsam-deploy").read_text(IDENTITIES)
    except PackageNotFoundError:
        packed = None
    if packed is not None:
        return codec.decode(Identities, codec.loads(packed.encode(), IDENTITIES), IDENTITIES).devices
    from ulsam_deploy.device.profiles import identities

    return identities()
