"""Which PyTorch module a node of a graph belongs to, by the path that its user knows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from torch.fx import Node

#: The attribute name of the network in the wrapper that capture puts around it.
_WRAPPED = "model"


def module_paths(node: Node) -> tuple[str, ...]:
    """Paths of the modules around ``node``, outermost first, e.g. ``('', 'model', 'model.features')``."""
    return tuple(path for path, _ in node.meta.get("nn_module_stack", {}).values())


def common_module(nodes: Sequence[Node]) -> str:
    """The path of the innermost module that contains all ``nodes``."""
    stacks = [module_paths(node) for node in nodes]
    path = ""
    for level in zip(*stacks):
        if len(set(level)) > 1:
            break
        path = level[0]
    return path


def own_path(path: str) -> str:
    """``path`` as the user knows it: without the wrapper that capture puts around the network, whose path is empty."""
    wrapper, _, inner = path.partition(".")
    return inner if wrapper == _WRAPPED else path


def module_of(node: Node) -> str | None:
    """The innermost module around ``node``, as the user knows it; ``None`` if the graph does not record it."""
    paths = module_paths(node)
    return own_path(paths[-1]) if paths else None


def is_within(path: str, modules: Iterable[str]) -> bool:
    """Whether the module ``path`` is one of ``modules`` or inside one."""
    return any(f"{path}.".startswith(f"{module}.") for module in modules)
