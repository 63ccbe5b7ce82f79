"""onnxsim and ONNX's checker in a process of their own, within limits: both are native code.

What they are given comes from a stranger's file where MODEL is an ONNX model: onnxsim computes constants, and both may
crash or never end. The process imports no torch: that would take as long as all the rest.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx

from ulsam_deploy.device.arrays import Array, ArrayMap
from ulsam_deploy.device.elsewhere import job
from ulsam_deploy.device.elsewhere.limits import Limits
from ulsam_deploy.device.errors import ExportError
from ulsam_deploy.device.third_party import quiet, words_of

from . import checking

#: A MobileNetV2 takes 2 s, on a busy machine ten times as long.
SECONDS = 600.0
#: Bytes of address space: libraries, and several copies of the model.
MEMORY, COPIES = 8 << 30, 16


@dataclass(frozen=True)
class Simplification:
    """A model as ``bytes``, one array; of an answer, whether onnxsim found that it computes the ``same``."""

    model: ArrayMap
    same: bool = False


def simplified(model: onnx.ModelProto) -> onnx.ModelProto:
    """``model``, simplified, stripped and checked, with inferred shapes.

    Raises:
        ExportError: onnxsim or the checker failed, crashed, took too long or too much memory, or onnxsim found another
            result.
    """
    data = model.SerializeToString()
    limits = Limits(SECONDS, MEMORY + COPIES * len(data))
    try:
        answer = job.do(simplify, Simplification(_packed(data)), limits, "simplifying the model with onnxsim")
    except ExportError as error:
        raise ExportError(
            error.found,
            expected=f"a network that onnxsim simplifies in {SECONDS:g} seconds and {MEMORY >> 30} GiB",
            todo="try another version of onnxsim, or leave out this target",
        ) from error
    if not answer.same:
        raise ExportError("onnxsim found that the simplified model computes something else")
    return _unpacked(answer.model)


def simplify(request: Simplification) -> Simplification:
    """The part of :func:`simplified` that runs in the other process."""
    sys.modules.setdefault("torch", None)  # type: ignore[arg-type]  # onnxsim imports it for what nobody calls here
    with words_of("onnxsim", "simplify the model"), quiet():
        import onnxsim

        model, same = onnxsim.simplify(_unpacked(request.model))
    checking.strip(model)
    checking.name_batch(model)
    return Simplification(_packed(checking.check(model).SerializeToString()), bool(same))


def _packed(data: bytes) -> Mapping[str, Array]:
    return {"bytes": np.frombuffer(data, np.uint8)}


def _unpacked(arrays: ArrayMap) -> onnx.ModelProto:
    return onnx.load_model_from_string(arrays["bytes"].tobytes())
