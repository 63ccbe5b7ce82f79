"""Reads and writes a LiteRT model as the objects of its schema, and lists its operators with names and values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ulsam_deploy.device.arrays import Array
from ulsam_deploy.device.third_party import quiet, words_of

if TYPE_CHECKING:
    from ulsam_deploy.graph.ownership import Operator


def read(content: bytes) -> Any:
    """Read the model as objects; raises :class:`~ulsam_deploy.device.errors.ExportError` for anything else."""
    with words_of("LiteRT's schema", "read the model"), quiet():
        from ai_edge_litert.tools import flatbuffer_utils

        return flatbuffer_utils.read_model_from_bytearray(bytearray(content))


def write(model: object) -> bytes:
    """``model`` as a file's bytes."""
    with words_of("LiteRT's schema", "write the model"), quiet():
        from ai_edge_litert.tools import flatbuffer_utils

        return bytes(flatbuffer_utils.convert_object_to_bytearray(model))


def kind_of(model: Any, operator: Any) -> str:
    """The kind of ``operator``, such as ``CONV_2D``."""
    from ai_edge_litert.schema_py_generated import BuiltinOperator

    code = model.operatorCodes[operator.opcodeIndex].builtinCode
    return str(next(name for name, number in vars(BuiltinOperator).items() if number == code))


def name_of(graph: Any, tensor: int) -> str:
    """The name of a tensor by its index."""
    return str(graph.tensors[tensor].name.decode())


def operators(model: Any) -> list[Operator]:
    """The operators in execution order, each named by the tensor that it makes; weights are not listed."""
    from ulsam_deploy.graph.ownership import Operator  # imports torch, which reading a model must not require

    graph = model.subgraphs[0]
    made = {index for operator in graph.operators for index in operator.outputs} | set(graph.inputs)
    found = []
    for operator in graph.operators:
        name = name_of(graph, operator.outputs[0])
        found.append(Operator(name, tuple(name_of(graph, index) for index in operator.inputs if index in made), name))
    return found


def values(content: bytes, feed: Mapping[str, Array]) -> dict[str, Array]:
    """Every floating-point input and result, by tensor name, on the batch ``feed`` in the artifact's layout."""
    with words_of("LiteRT", "run the model with all of its values kept"), quiet():
        from ai_edge_litert.interpreter import Interpreter, OpResolverType

        plain = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
        opened = Interpreter(
            model_content=content, experimental_op_resolver_type=plain, experimental_preserve_all_tensors=True
        )
        opened.allocate_tensors()
        inputs = {name: port["index"] for name, port in opened.get_signature_runner().get_input_details().items()}
        for name, array in feed.items():
            opened.set_tensor(inputs[name], array)
        opened.invoke()
        kept = {int(index) for op in opened._get_ops_details() for index in op["outputs"]} | set(inputs.values())
        found = {d["name"]: opened.get_tensor(d["index"]) for d in opened.get_tensor_details() if d["index"] in kept}
    return {name: array for name, array in found.items() if array.dtype.kind == "f"}
