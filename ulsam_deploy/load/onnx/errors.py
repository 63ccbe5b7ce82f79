"""The error for a node of an ONNX graph that cannot be read; the network adds which node it is."""

from __future__ import annotations


class NotReadError(Exception):
    """A node is not supported, with a short reason."""
