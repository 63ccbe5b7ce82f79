"""The twin of an OpenVINO model without one block's attention: its softmax times zero, and nothing else changed."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ulsam_deploy.third_party import load_openvino


def write_silenced(model: Path, block: int, into: Path) -> bool:
    """Write ``model`` (``.xml``) as ``into`` with the softmax number ``block``, in running order, taken as zero.

    False, and nothing is written, where it has no such softmax.
    """
    openvino = load_openvino()
    twin = openvino.Core().read_model(model)
    softmaxes = [op for op in twin.get_ordered_ops() if op.get_type_name() == "Softmax"]
    if len(softmaxes) <= block:
        return False
    alive = softmaxes[block].output(0)
    readers = alive.get_target_inputs()
    zero = openvino.opset13.constant(np.zeros((), alive.get_element_type().to_dtype()))
    dead = openvino.opset13.multiply(alive, zero)
    for reader in readers:
        reader.replace_source_output(dead.output(0))
    openvino.save_model(twin, into, compress_to_fp16=False)
    return True
