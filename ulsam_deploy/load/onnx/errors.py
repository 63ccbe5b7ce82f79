"""Errors of ONNX in: of a node that cannot be read (the network adds which), and of a whole file."""

from __future__ import annotations

from ulsam_deploy.device.errors import ExportError
from ulsam_deploy.device.printing import shown

EXPECTED = "an ONNX model of a compact CNN"


class NotReadError(Exception):
    """A node is not supported, with a short reason."""


def broken(name: str, why: str) -> ExportError:
    """The error for the file called ``name``, which cannot be read at all."""
    return ExportError(
        f"'{name}' cannot be read: {line(why)}", expected=EXPECTED, todo="export or copy the model again"
    )


def line(text: object) -> str:
    """Make one short line of text from an untrusted file, because it is printed to a terminal."""
    return shown(" ".join(str(text).split())[:300])
