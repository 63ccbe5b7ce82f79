"""The words of ``ulsam-deploy sign``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ulsam_deploy.device.commands.arguments import command


def add(commands: Any) -> None:
    """Add the command and its words."""
    parser = command(commands, "sign", "sign a bundle folder, so that 'verify --key' can tell who made it")
    parser.add_argument(
        "bundle", type=Path, metavar="BUNDLE", help="a bundle folder; an archive packed later is signed too"
    )
    by = parser.add_mutually_exclusive_group(required=True)
    by.add_argument(
        "--key", type=Path, metavar="KEY.pem", help="your private key: elliptic curve P-256, P-384 or P-521"
    )
    by.add_argument("--online", action="store_true", help="with your identity, through Sigstore")
