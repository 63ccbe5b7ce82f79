"""Artifact ablation in OpenVINO: the softmaxes of one block times zero; nothing else changes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ulsam_deploy.device.third_party import load_openvino


def read(model: Path) -> Any:
    """Read the model in an ``.xml`` file and its weights."""
    return load_openvino().Core().read_model(model)


def softmaxes(model: Any) -> list[Any]:
    """The softmax operations in execution order."""
    return [op for op in model.get_ordered_ops() if op.get_type_name() == "Softmax"]


def write_ablated(model: Path, chosen: Sequence[int], into: Path) -> bool:
    """Write ``model`` (``.xml``) to ``into`` with the softmaxes numbered ``chosen``, in execution order, set to zero.

    Returns False, and writes nothing, if the model does not have these softmaxes.
    """
    openvino = load_openvino()
    edited = read(model)
    found = softmaxes(edited)
    if len(found) <= max(chosen):
        return False
    for softmax in (found[number] for number in chosen):
        alive = softmax.output(0)
        readers = alive.get_target_inputs()
        zero = openvino.opset13.constant(np.zeros((), alive.get_element_type().to_dtype()))
        dead = openvino.opset13.multiply(alive, zero)
        for reader in readers:
            reader.replace_source_output(dead.output(0))
    openvino.save_model(edited, into, compress_to_fp16=False)
    return True
