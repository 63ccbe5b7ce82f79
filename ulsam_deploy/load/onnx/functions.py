"""Replaces operators by the definition that the ONNX standard itself gives for them.

The standard defines many operators (attention, RMS normalisation, Swish) by a graph of simpler ones. What is not in our
own table is read from there, so that nobody has to write it a second time. Each of the nodes keeps the name and the
scopes of the user's node.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto, ValueInfoProto

__all__ = ["expanded"]


def expanded(model: ModelProto, known: Collection[str]) -> ModelProto:
    """``model`` with every operator that is not in ``known`` replaced by the standard's definition, if it has one."""
    import onnx

    version = max(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx"))
    names = {node.op_type for node in model.graph.node} - set(known)
    wanted = {name for name in names if onnx.defs.has(name) and _defined(onnx.defs.get_schema(name, version, ""))}
    if not wanted:
        return model
    types, copy = _types(model), onnx.ModelProto()
    copy.CopyFrom(model)
    del copy.graph.node[:]
    for node in model.graph.node:
        copy.graph.node.extend(_body(node, model, types, known) if node.op_type in wanted else [node])
    return copy


def _defined(schema: Any) -> bool:
    return bool(schema.has_function or schema.has_context_dependent_function)


def _types(model: ModelProto) -> Mapping[str, ValueInfoProto]:
    """The type of every value of the graph, as far as it can be inferred."""
    import onnx

    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    weights = [onnx.helper.make_tensor_value_info(w.name, w.data_type, w.dims) for w in model.graph.initializer]
    graph = onnx.shape_inference.infer_shapes(copy, data_prop=True).graph
    return {value.name: value for value in (*weights, *graph.value_info, *graph.input, *graph.output)}


def _complete(node: NodeProto, model: ModelProto) -> NodeProto:
    """``node`` with the defaults of the attributes that it leaves out, which a definition refers to."""
    import onnx

    version = max(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx"))
    copy, given = onnx.NodeProto(), {attribute.name for attribute in node.attribute}
    copy.CopyFrom(node)
    for name, attribute in onnx.defs.get_schema(node.op_type, version, "").attributes.items():
        if name not in given and attribute.default_value.name:
            copy.attribute.append(attribute.default_value)
    return copy


def _body(
    node: NodeProto, model: ModelProto, types: Mapping[str, ValueInfoProto], known: Collection[str]
) -> Iterator[NodeProto]:
    """The definition of ``node``, with the functions in it replaced as well."""
    import onnx
    from onnx import helper, inliner

    inputs = [types[name] for name in dict.fromkeys(node.input) if name in types]
    outputs = [types.get(name) or onnx.ValueInfoProto(name=name) for name in node.output if name]
    if "" in node.input:  # the inliner asks for the type of an absent input as well
        inputs.append(helper.make_tensor_value_info("", onnx.TensorProto.FLOAT, None))
    alone = helper.make_model(
        helper.make_graph([_complete(node, model)], "one", inputs, outputs), opset_imports=list(model.opset_import)
    )
    functions = [(schema.domain, schema.name) for schema in onnx.defs.get_all_schemas() if schema.name not in known]
    own = {*node.input, *node.output}
    for part in inliner.inline_selected_functions(alone, functions, False, True).graph.node:
        for names in (part.input, part.output):
            names[:] = [name if not name or name in own else f"{node.output[0]}/{name}" for name in names]
        part.name = node.name or node.output[0]
        part.metadata_props.extend(node.metadata_props)
        yield part
