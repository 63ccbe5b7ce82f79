"""Why a node of an ONNX graph cannot be read; the network says which node it is."""

from __future__ import annotations


class NotReadError(Exception):
    """Why a node has no meaning here, in a few words."""
