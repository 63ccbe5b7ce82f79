"""ONNX models that are small and unfold: functions in functions, constants of constants, names and scopes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from .inputs import Input

SECONDS = 60.0
#: Too large or not sound (3), or wrong usage (2), or refused; never exported.
WORDS = frozenset({2, 3, 6})


def inputs() -> Iterator[Input]:
    """Each by the command that has the most to do with it."""
    for name, make in GRAPHS.items():
        sound = frozenset({0}) if name in SOUND or name.startswith("a node called") else frozenset()
        yield Input("ONNX that unfolds", name, partial(_export, make), WORDS | sound, SECONDS, writes=bool(sound))


#: Odd, but networks all the same: these may be exported.
SOUND = ("5,000 scopes deep", "100,000 scopes deep")


def _export(make: Callable[[], Any], folder: Path) -> list[str]:
    write(make, folder)
    return ["export", "model.onnx", "--target", "openvino", "--output", "../out/out.bundle", "--no-cache"]


def write(make: Callable[[], Any], folder: Path) -> None:
    """``model.onnx`` in ``folder``, with its weights if they are in a file beside it."""
    made = make()
    if isinstance(made, tuple):  # the weights are in a sparse file beside it
        made, size = made
        with (folder / "w.bin").open("wb") as file:
            file.truncate(size)
    data = made if isinstance(made, bytes) else made.SerializeToString()
    (folder / "model.onnx").write_bytes(data)


def _io(shape: tuple[int, ...] = (1, 4)) -> tuple[Any, Any]:
    from onnx import TensorProto, helper

    return tuple(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in "xy")  # type: ignore[return-value]


def _model(nodes: list[Any], weights: list[Any] = [], functions: list[Any] = [], outputs: Any = None) -> Any:  # noqa: B006
    from onnx import helper

    x, y = _io()
    graph = helper.make_graph(nodes, "g", [x], [y] if outputs is None else outputs, weights)
    opsets = [helper.make_opsetid("", 18), *([helper.make_opsetid("f", 1)] if functions else [])]
    return helper.make_model(graph, opset_imports=opsets, ir_version=9, functions=functions)


def _node(op: str, ins: list[str], outs: list[str], **attributes: Any) -> Any:
    from onnx import helper

    return helper.make_node(op, ins, outs, **attributes)


def _const(name: str, values: Any) -> Any:
    from onnx import numpy_helper

    return numpy_helper.from_array(np.asarray(values), name)


def calls(depth: int) -> Any:
    """``depth`` functions, each of which calls the next one twice."""
    from onnx import helper

    opset = [helper.make_opsetid("", 18), helper.make_opsetid("f", 1)]
    functions = []
    for level in range(depth):
        inner = ("Relu", "") if level == depth - 1 else (f"f{level + 1}", "f")
        nodes = [_node(inner[0], ["a"], ["m"], domain=inner[1]), _node(inner[0], ["m"], ["b"], domain=inner[1])]
        functions.append(helper.make_function("f", f"f{level}", ["a"], ["b"], nodes, opset))
    return _model([_node("f0", ["x"], ["y"], domain="f")], functions=functions)


def itself() -> Any:
    """A function that calls itself."""
    from onnx import helper

    opset = [helper.make_opsetid("", 18), helper.make_opsetid("f", 1)]
    return _model(
        [_node("f0", ["x"], ["y"], domain="f")],
        functions=[helper.make_function("f", "f0", ["a"], ["b"], [_node("f0", ["a"], ["b"], domain="f")], opset)],
    )


def empty_function() -> Any:
    """A function without a node."""
    from onnx import helper

    return _model(
        [_node("f0", ["x"], ["y"], domain="f")],
        functions=[helper.make_function("f", "f0", ["a"], ["a"], [], [helper.make_opsetid("", 18)])],
    )


def tiled(count: int) -> Any:
    return _model(
        [
            _node("Tile", ["c", "n"], ["big"]),
            _node("ReduceSum", ["big"], ["s"], keepdims=0),
            _node("Add", ["x", "s"], ["y"]),
        ],
        [_const("c", np.ones(1, np.float32)), _const("n", np.array([count]))],
    )


def expanded(count: int) -> Any:
    return _model(
        [
            _node("Expand", ["c", "n"], ["big"]),
            _node("ReduceSum", ["big"], ["s"], keepdims=0),
            _node("Add", ["x", "s"], ["y"]),
        ],
        [_const("c", np.ones(1, np.float32)), _const("n", np.array([count]))],
    )


def filled(count: int) -> Any:
    return _model(
        [
            _node("ConstantOfShape", ["n"], ["big"]),
            _node("ReduceSum", ["big"], ["s"], keepdims=0),
            _node("Add", ["x", "s"], ["y"]),
        ],
        [_const("n", np.array([count]))],
    )


def doubled(times: int, kind: str = "int") -> Any:
    """A constant that is concatenated with itself ``times`` times."""
    nodes = [_node("Concat", [f"c{i}", f"c{i}"], [f"c{i + 1}"], axis=0) for i in range(times)]
    nodes += [_node("ReduceProd" if kind == "int" else "ReduceSum", [f"c{times}"], ["s"], keepdims=0)]
    nodes += [_node("Cast", ["s"], ["t"], to=1), _node("Add", ["x", "t"], ["y"])]
    return _model(nodes, [_const("c0", np.ones(8, np.int64 if kind == "int" else np.float32))])


def squared(times: int) -> Any:
    """A whole number that is squared ``times`` times."""
    nodes = [_node("Mul", [f"c{i}", f"c{i}"], [f"c{i + 1}"]) for i in range(times)]
    return _model(
        [*nodes, _node("Cast", [f"c{times}"], ["t"], to=1), _node("Add", ["x", "t"], ["y"])],
        [_const("c0", np.array([3]))],
    )


def powered() -> Any:
    return _model(
        [_node("Pow", ["c", "n"], ["p"]), _node("Cast", ["p"], ["t"], to=1), _node("Add", ["x", "t"], ["y"])],
        [_const("c", np.array([3])), _const("n", np.array([1 << 40]))],
    )


def one_name(count: int) -> Any:
    """So many nodes of one name."""
    nodes = [
        _node("Relu", ["x" if i == 0 else f"m{i}"], ["y" if i == count - 1 else f"m{i + 1}"], name="a")
        for i in range(count)
    ]
    return _model(nodes)


def scoped(depth: int, count: int = 2) -> Any:
    """A node ``depth`` scopes deep."""
    name = "/".join(f"s{i}" for i in range(depth))
    return _model(
        [_node("Relu", ["x"], ["m"], name=f"/{name}/a"), _node("Relu", ["m"], ["y"], name=f"/{name}/b")][:count]
    )


def named(name: str) -> Any:
    return _model([_node("Relu", ["x"], ["m"], name=name), _node("Relu", ["m"], ["y"], name=f"{name}/x")])


def attribute(op: str, **values: Any) -> Any:
    return _model([_node(op, ["x"], ["y"], **values)])


def external(size: int) -> Any:
    """Weights in a sparse file of ``size`` bytes."""
    from onnx import TensorProto

    weight = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[size // 4], data_location=TensorProto.EXTERNAL)
    entry = weight.external_data.add()
    entry.key, entry.value = "location", "w.bin"
    model = _model([_node("ReduceSum", ["w"], ["s"], keepdims=0), _node("Add", ["x", "s"], ["y"])], [weight])
    return model, size


def many_weights() -> Any:
    """One sparse file of 1 GiB that 20 weights name."""
    from onnx import TensorProto

    weights = []
    for number in range(20):
        weight = TensorProto(
            name=f"w{number}", data_type=TensorProto.FLOAT, dims=[1 << 28], data_location=TensorProto.EXTERNAL
        )
        entry = weight.external_data.add()
        entry.key, entry.value = "location", "w.bin"
        weights.append(weight)
    nodes = [_node("ReduceSum", [f"w{n}"], [f"s{n}"], keepdims=0) for n in range(20)]
    return _model([*nodes, _node("Add", ["x", "s0"], ["y"])], weights), 1 << 30


def padded(count: int) -> Any:
    """Feature maps that grow without end while the network runs."""
    nodes = [_node("Relu", ["x"], ["m0"])]
    nodes += [_node("Concat", [f"m{i}", f"m{i}"], [f"m{i + 1}"], axis=1) for i in range(count)]
    return _model([*nodes, _node("ReduceMean", [f"m{count}"], ["y"], keepdims=1)])


#: Names that mean something to a module, to a path, or to a terminal.
NODES = ("_paths", "forward", "__class__", "_modules", "training", "x.y", "/", "..", "0", "graph", "a\x1b[2J\n::b")
GRAPHS: dict[str, Callable[[], Any]] = {
    "functions that call twice, 22 deep": partial(calls, 22),
    "functions that call twice, 40 deep": partial(calls, 40),
    "a function that calls itself": itself,
    "an empty function": empty_function,
    "Tile to 2^29": partial(tiled, 1 << 29),
    "Tile to 2^40": partial(tiled, 1 << 40),
    "Tile a negative number of times": partial(tiled, -1),
    "Expand to 2^29": partial(expanded, 1 << 29),
    "Expand to 2^40": partial(expanded, 1 << 40),
    "ConstantOfShape of 2^29": partial(filled, 1 << 29),
    "ConstantOfShape of 2^40": partial(filled, 1 << 40),
    "Concat doubled 32 times": partial(doubled, 32),
    "Concat doubled 26 times": partial(doubled, 26),
    "Concat of weights doubled 32 times": partial(doubled, 32, "float"),
    "Mul squared 40 times": partial(squared, 40),
    "Pow to 2^40": powered,
    "49,000 nodes of one name": partial(one_name, 49_000),
    "5,000 scopes deep": partial(scoped, 5000),
    "100,000 scopes deep": partial(scoped, 100_000, 2),
    **{f"a node called {name!r}": partial(named, name) for name in NODES},
    "Softmax over axis 2^63-1": partial(attribute, "Softmax", axis=2**63 - 1),
    "Softmax over axis -2^63": partial(attribute, "Softmax", axis=-(2**63)),
    "Flatten at axis 2^63-1": partial(attribute, "Flatten", axis=2**63 - 1),
    "Transpose of axes 2^63-1": partial(attribute, "Transpose", perm=[2**63 - 1, 0]),
    "Concat over axis 2^63-1": lambda: _model([_node("Concat", ["x", "x"], ["y"], axis=2**63 - 1)]),
    "Split into 2^62": lambda: _model([_node("Split", ["x"], ["y"], axis=1, num_outputs=2**62)]),
    "external weights of 5 GiB": partial(external, 5 << 30),
    "external weights of 20 GiB in 1": many_weights,
    "no outputs": lambda: _model([_node("Relu", ["x"], ["y"])], outputs=[]),
    "an output that is the input": lambda: _model([_node("Relu", ["x"], ["m"])], outputs=[_io()[0]]),
    "an output of nobody": lambda: _model([_node("Relu", ["x"], ["m"])]),
    "an output twice": lambda: _model([_node("Relu", ["x"], ["y"])], outputs=[_io()[1], _io()[1]]),
    "maps that double 36 times": partial(padded, 36),
    "maps that double 26 times": partial(padded, 26),
}  # fmt: skip
