"""Maps the names in an ONNX file to module paths: users look for the module that they wrote, not for a node's number.

Two exporters record where a node comes from: TorchScript's in the node's name (``/block/branches.0/conv/Conv``), the
dynamo exporter in its metadata (``['', 'block', 'block.branches.0', 'conv2d_1']``).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

SCOPES = "pkg.torch.onnx.name_scopes"
#: Longer names are not written by people, but may occur in untrusted files.
_MOST = 200
#: Deeper than any network; what is between is left out.
_DEEPEST = 32


def path_of(node: Any) -> tuple[str, ...]:
    """The scopes around an ONNX node, outermost first, then the node itself; each a plain name without dots."""
    scopes = next((entry.value for entry in node.metadata_props if entry.key == SCOPES), "")
    if scopes:
        *modules, last = re.findall(r"'([^']*)'", scopes) or [""]
        parts = [*modules[-1:], last or node.op_type]
    else:
        parts = list(_unfolded(node.name.strip("/").split("/")))
    plain = [_plain(piece) for part in parts for piece in part.split(".")]
    path = tuple(piece for piece in plain if piece) or (node.op_type,)
    return path if len(path) <= _DEEPEST else (*path[: _DEEPEST - 1], path[-1])


def _unfolded(parts: Sequence[str]) -> Iterator[str]:
    """Undo that TorchScript repeats the name of an ``nn.Sequential`` in each of its parts: ``conv/conv.0``."""
    before = ""
    for part in parts:
        yield part.removeprefix(before + ".") if before else part
        before = part


def _plain(name: str) -> str:
    return re.sub(r"\W", "_", name, flags=re.ASCII)[:_MOST]


def ports(names: Sequence[str], kind: str) -> tuple[str, ...]:
    """Names of graph inputs or outputs that every target accepts: their own, simplified, or ``kind`` and a number."""
    plain = [_plain(name).strip("_") for name in names]
    good = [name[:1].isalpha() and plain.count(name) == 1 for name in plain]
    return tuple(name if ok else f"{kind}_{index}" for index, (name, ok) in enumerate(zip(plain, good)))
