"""What is done to every ONNX model that an export writes: it is stripped, named and checked. Needs no torch."""

from __future__ import annotations

from typing import Any

import onnx

from ulsam_deploy.device.third_party import words_of


def check(model: onnx.ModelProto) -> onnx.ModelProto:
    """Run ONNX's full checker and strict shape inference; returns ``model`` with inferred shapes.

    This is native code. It meets what came from outside in another process (:mod:`.simplify`), and here only what this
    program has made of a model that has passed there.
    """
    with words_of("the ONNX checker", "accept the model"):
        onnx.checker.check_model(model, full_check=True)
        return onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True, data_prop=True)


def strip(message: Any) -> None:
    """Remove every ``metadata_props`` and ``doc_string``: torch writes stack traces with local paths there."""
    for field, value in message.ListFields():
        if field.name in ("metadata_props", "doc_string"):
            message.ClearField(field.name)
        elif field.message_type is not None:
            for child in (value,) if hasattr(value, "ListFields") else value:
                strip(child)


def name_batch(model: onnx.ModelProto) -> None:
    """Rename torch's symbol for the dynamic batch (such as ``s77``) to ``batch``."""
    values = [*model.graph.input, *model.graph.output, *model.graph.value_info]
    dims = [dim for value in values for dim in value.type.tensor_type.shape.dim]
    symbols = {value.type.tensor_type.shape.dim[0].dim_param for value in model.graph.input} - {""}
    for dim in dims:
        if dim.dim_param in symbols:
            dim.dim_param = "batch"
