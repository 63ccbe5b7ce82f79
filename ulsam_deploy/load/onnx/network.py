"""Turns an ONNX graph into one ``nn.Module`` whose capture looks as if the model's author had written it.

Every operator on tensors is a module at its own place in a tree of scopes, and is called through that tree, so that
each captured node carries the module path recorded in the file.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ulsam_deploy.device.arrays import Array
from ulsam_deploy.device.errors import ExportError, UlsamError
from ulsam_deploy.load.onnx import known, names
from ulsam_deploy.load.onnx.errors import NotReadError
from ulsam_deploy.load.onnx.operators import OPERATORS
from ulsam_deploy.load.onnx.operators.values import tensor
from ulsam_deploy.load.onnx.reading import Graph, Node

#: More than the result of any layer of a compact CNN (4 GiB as float32), and more than that for one image: an untrusted
#: file must not fill the memory.
MOST_ELEMENTS, MOST_OF_ONE = 1 << 30, 1 << 27
#: The operators that read only the shape of a tensor.
_OF_SHAPES = ("Shape", "Size")
#: Operators for which a weight of one element stays a tensor; elsewhere it becomes a number.
_OF_WEIGHTS = (
    *("Conv", "ConvTranspose", "Gemm", "MatMul", "LSTM", "GRU", "RNN"),
    *("BatchNormalization", "InstanceNormalization", "GroupNormalization", "LayerNormalization"),
)
#: Inputs that are read as numbers, and never as weights.
_NUMBERS: Mapping[str, tuple[int, ...]] = {"Resize": (1, 2, 3)}
_STATISTICS: Mapping[str, tuple[int, ...]] = {"BatchNormalization": (3, 4)}


class Scope(nn.Module):
    """A named part of the network, which passes a call on to the module at ``path`` inside it."""

    def forward(self, path: Sequence[str], *values: object) -> Any:
        """Call the module at ``path`` with ``values``."""
        child = self.get_submodule(path[0])
        return child(path[1:], *values) if len(path) > 1 else child(*values)


class NetworkStep(nn.Module):
    """One operator with its weights: parameters, or buffers for a batch norm's statistics."""

    def __init__(self, node: Node, graph: Graph, weights: Mapping[str, nn.Parameter]) -> None:
        super().__init__()
        self.meaning = OPERATORS[node.op]
        self.attributes = {**node.attributes, "op": node.op, "opset": graph.opset, "results": len(node.outputs)}
        self.attributes["kinds"] = [graph.kinds.get(name, "") for name in node.inputs]
        self.held: dict[int, str] = {}
        if (taken := _taken(node, weights)) is not None:
            self.meaning = _take
            self.register_buffer("taken", taken)
            self.held[1] = "taken"
            return
        for position, name in enumerate(node.inputs):
            if name not in weights or (weights[name].numel() == 1 and node.op not in _OF_WEIGHTS):
                continue
            if position in _NUMBERS.get(node.op, ()):
                continue
            own = self.held[position] = f"input_{position}"
            if position in _STATISTICS.get(node.op, ()):
                self.register_buffer(own, weights[name].data)
            else:
                self.register_parameter(own, weights[name])

    def forward(self, *values: object) -> Any:
        """The operator's results; a value is ``None`` if it is a weight of this step, or absent."""
        filled = [getattr(self, self.held[i]) if i in self.held else value for i, value in enumerate(values)]
        return self.meaning(self.attributes, *filled)


def _taken(node: Node, weights: Mapping[str, nn.Parameter]) -> Tensor | None:
    """The channel that each output of a convolution copies, if it only copies channels and adds 1.

    Converters copy ``1 + a`` to the channels of a subspace in this way: it is data movement, without real weights.
    """
    if node.op != "Conv" or len(node.inputs) != 3 or not weights.keys() >= set(node.inputs[1:]):
        return None
    weight, bias = (weights[name].data for name in node.inputs[1:])
    moved = any(node.attributes.get("pads", ())) or set(node.attributes.get("strides", ())) > {1}
    if moved or node.attributes.get("group", 1) != 1:
        return None
    if weight.shape[2:] != (1, 1) or not bool((bias == 1).all()):
        return None
    of_one = bool(((weight == 0) | (weight == 1)).all()) and bool((weight.sum(1) == 1).all())
    return weight.flatten(1).argmax(1) if of_one else None


def _take(_: Mapping[str, object], x: Tensor, taken: Tensor, bias: object) -> Tensor:  # noqa: ARG001 - it is 1
    return torch.index_select(x, 1, taken) + 1


class OnnxNetwork(Scope):
    """``graph`` as a network: its inputs in order, a mapping of its outputs by name."""

    def __init__(self, graph: Graph) -> None:
        super().__init__()
        self.input_names = names.ports([port.name for port in graph.inputs], "input")
        self.output_names = names.ports(graph.outputs, "output")
        self.graph = graph
        floats = {name: array for name, array in graph.weights.items() if array.dtype.kind == "f"}
        tensors = _parameters(floats)
        numbers = {name: array for name, array in graph.weights.items() if array.size == 1 or name not in tensors}
        self._known = {name: known.of(array) for name, array in numbers.items()}
        self._weights = frozenset(tensors.keys() - numbers.keys())
        self.most = MOST_ELEMENTS
        self._paths: list[tuple[str, ...]] = []  # from now on no node can be called so
        used: dict[tuple[nn.Module, str], int] = {}
        self._paths += [self._place(node, tensors, used) for node in graph.nodes]

    def _place(
        self, node: Node, tensors: Mapping[str, nn.Parameter], used: dict[tuple[nn.Module, str], int]
    ) -> tuple[str, ...]:
        """Add a module for ``node`` to the tree of scopes; returns its path. ``used``: how often each name is taken."""
        if node.op not in OPERATORS:
            return ()  # works on known values, or is reported as unsupported later
        scope: nn.Module = self
        path: list[str] = []
        for name in node.path[:-1]:
            name = _free(scope, name, Scope)
            if name not in scope._modules:
                scope.add_module(name, Scope())
            scope = scope.get_submodule(name)
            path.append(name)
        leaf = _free(scope, node.path[-1], None, used.get((scope, node.path[-1]), 1))
        used[scope, node.path[-1]] = used.get((scope, node.path[-1]), 0) + 1
        scope.add_module(leaf, NetworkStep(node, self.graph, tensors))
        return (*path, leaf)

    def forward(self, *inputs: Tensor) -> dict[str, Tensor]:  # type: ignore[override]
        """The graph's outputs; raises an :class:`ExportError` that names the first operator that cannot be read."""
        values: dict[str, Any] = {"": None, **dict.fromkeys(self._weights), **self._known}
        values.update(zip((port.name for port in self.graph.inputs), inputs, strict=True))
        for node, path in zip(self.graph.nodes, self._paths):
            given = [values[name] for name in node.inputs]
            for position in _NUMBERS.get(node.op, ()):
                if node.inputs[position:] and node.inputs[position] in self._weights:
                    given[position] = known.of(self.graph.weights[node.inputs[position]])
            results = self._run(node, path, given)
            results = results if isinstance(results, tuple) else (results,)
            if any(node.outputs[len(results) :]):
                raise _unread(node, f"it is an operator whose output {len(results) + 1} is used")
            values.update(zip(node.outputs, results))
        return {plain: self._output(name, values) for plain, name in zip(self.output_names, self.graph.outputs)}

    def _output(self, name: str, values: Mapping[str, Any]) -> Any:
        """An output, also one that does not depend on the inputs, such as a shape or a weight."""
        if values[name] is None:
            return torch.tensor(self.graph.weights[name])
        return values[name] if isinstance(values[name], Tensor | list) else tensor(values[name])

    def _run(self, node: Node, path: tuple[str, ...], given: list[Any]) -> Any:
        on_tensors = any(isinstance(v, Tensor | list) for v in given) or any(
            name in self._weights for name in node.inputs
        )
        try:
            if node.op in _OF_SHAPES:
                asked = self.graph.weights[node.inputs[0]] if given[0] is None else given[0]
                sizes = known.shape_of(node.attributes, asked.shape)
                return sizes if node.op == "Shape" else known.of(sizes.prod())
            if on_tensors:
                results = super().forward(path, *given)
                _check_size(results, self.most)
                return results
            if node.op in known.OPERATORS:
                return known.run(node.op, {**node.attributes, "results": len(node.outputs)}, *given)
            return super().forward(
                path, *(value if value is None else tensor(value) for value in given[:1]), *given[1:]
            )
        except UlsamError:
            raise
        except NotReadError as error:
            raise _unread(node, f"it is {error}") from error
        except (RuntimeError, TypeError, ValueError, IndexError, AttributeError, KeyError, ArithmeticError) as error:
            raise _unread(node, f"{type(error).__name__}: {(str(error) or '?').splitlines()[0]}") from error


def _parameters(arrays: Mapping[str, Array]) -> dict[str, nn.Parameter]:
    """A parameter for each array; the same one for the same array, so that shared weights stay shared."""
    made = {
        id(array): nn.Parameter(torch.tensor(array, dtype=torch.float32), requires_grad=False)
        for array in arrays.values()
    }
    return {name: made[id(array)] for name, array in arrays.items()}


def _free(scope: nn.Module, name: str, kind: type[nn.Module] | None, count: int = 1) -> str:
    """``name``, with a number above ``count`` if ``scope`` uses that name for something else."""
    found = name
    while hasattr(scope, found) and not (kind and type(scope._modules.get(found)) is kind):
        count += 1
        found = f"{name}_{count}"
    return found


def _check_size(results: object, most: int) -> None:
    for result in results if isinstance(results, tuple | list) else (results,):
        if isinstance(result, Tensor) and result.numel() > most:
            raise NotReadError(f"a tensor of {result.numel():,} elements, more than a compact CNN has")


def _unread(node: Node, why: str) -> ExportError:
    return ExportError(
        f"the operator {node.op} (node '{node.name}') cannot be read: {why[:300]}",
        expected="a CNN of the operators that docs/onnx-in.md lists",
        todo="simplify the model with onnxsim, or export from the checkpoint itself",
    )


def unknown_operators(graph: Graph) -> list[str]:
    """``Op (node name)`` for the first node of every operator that is not supported at all."""
    first: dict[str, str] = {}
    for node in graph.nodes:
        if node.op not in OPERATORS and node.op not in known.OPERATORS and node.op not in _OF_SHAPES:
            first.setdefault(node.op, f"{node.op} (node '{node.name}')")
    return list(first.values())


def sized(network: OnnxNetwork, shapes: Sequence[Sequence[int]]) -> None:
    """Run ``network`` on inputs of ``shapes`` without data, which takes no memory; raises what a real run would."""
    copy = OnnxNetwork(network.graph).to("meta")
    copy.most = min(copy.most, MOST_OF_ONE * max(shape[0] for shape in shapes))
    with torch.no_grad(), torch.device("meta"):
        copy(*(torch.empty(*shape) for shape in shapes))
