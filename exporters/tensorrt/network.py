"""Runs in NumPy, without a GPU, the network as TensorRT's own ONNX parser understood it.

It shows whether the parser read the network (paddings, groups, axes, folded weights, types) as intended. It says
nothing about TensorRT's kernels: this is evidence of the level ``parsed``, and not higher.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np

from ulsam_deploy.device.arrays import Array, ArrayMap
from ulsam_deploy.device.errors import ExportError
from ulsam_deploy.device.findings import EngineFacts
from ulsam_deploy.device.runtime import Runtime
from ulsam_deploy.device.shapes import shape_text
from ulsam_deploy.device.third_party import installed, words_of
from ulsam_deploy.device.types import Artifact, Availability

from .layers import LAYERS, Meaning, Operation, UnknownLayerError
from .rounding import DECLARED, Rounding

#: TensorRT's element types and the NumPy types that they are stored as.
DTYPES = {"FLOAT": "float32", "HALF": "float16", "INT8": "int8", "INT32": "int32", "INT64": "int64", "BOOL": "bool"}


@dataclass(frozen=True)
class _Step:
    """One layer (in its specific class), the function that computes it, and the names of its tensors."""

    layer: Any
    kind: str
    meaning: Meaning
    inputs: tuple[str, ...]
    output: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]


class ParsedNetwork:
    """A parsed ``INetworkDefinition`` that can be run. ``owner`` keeps the parser, and so the weights, alive.

    Raises :class:`UnknownLayerError` if it has a layer that :mod:`.layers` does not support.
    """

    def __init__(self, trt: ModuleType, network: Any, owner: object) -> None:
        self._owner = owner
        self.inputs = tuple(network.get_input(index).name for index in range(network.num_inputs))
        self.outputs = tuple(network.get_output(index).name for index in range(network.num_outputs))
        steps = [_step(trt, network.get_layer(index)) for index in range(network.num_layers)]
        self._steps = _in_order(steps)
        self._last_use = {name: number for number, step in enumerate(self._steps) for name in step.inputs}

    @property
    def softmaxes(self) -> tuple[str, ...]:
        """The outputs of the softmax layers, in order: one for each attention block."""
        return tuple(step.output for step in self._steps if step.kind == "SOFTMAX")

    def run(self, feeds: ArrayMap, rounding: Rounding = DECLARED, ablated: str = "") -> dict[str, Array]:
        """Run the network.

        Args:
            feeds: The inputs by name.
            rounding: The model of rounding.
            ablated: The name of a tensor to replace by zero: that of a softmax removes its block's attention.

        Returns:
            The outputs by name in the declared types; float16 is stored as float32.
        """
        values: dict[str, Array] = {name: np.asarray(feeds[name]) for name in self.inputs}
        for number, step in enumerate(self._steps):
            value = np.asarray(step.meaning(Operation(step.layer, [values[name] for name in step.inputs], rounding)))
            if value.ndim != len(step.shape) or any(d not in (-1, f) for d, f in zip(step.shape, value.shape)):
                raise ExportError(
                    f"layer '{step.layer.name}' of the parsed network gives shape {shape_text(value.shape)}",
                    expected=f"{shape_text(step.shape)}, which the parser declared",
                )
            # A cast is an operation of its own: it rounds even if an engine fuses it.
            kept = rounding if step.kind != "CAST" else DECLARED
            values[step.output] = kept.keep(value if step.output != ablated else np.zeros_like(value), step.dtype)
            for name in step.inputs:
                if self._last_use[name] == number and name not in self.outputs:
                    values.pop(name, None)
        return {name: values[name] for name in self.outputs}


def _step(trt: ModuleType, layer: Any) -> _Step:
    kind = layer.type.name
    if kind not in LAYERS:
        raise UnknownLayerError(f"layer type {kind} ('{layer.name}')")
    if layer.num_outputs != 1:
        raise UnknownLayerError(f"{kind} with {layer.num_outputs} outputs ('{layer.name}')")
    class_name, meaning = LAYERS[kind]
    tensors = [layer.get_input(index) for index in range(layer.num_inputs)]
    if any(tensor is None for tensor in tensors):
        raise UnknownLayerError(f"{kind} with an input left out ('{layer.name}')")
    output = layer.get_output(0)
    layer.__class__ = getattr(trt, class_name)  # get_layer gives the base class, without the layer's own attributes
    names = tuple(tensor.name for tensor in tensors)
    dtype = np.dtype(DTYPES[output.dtype.name])
    return _Step(layer, kind, meaning, names, output.name, dtype, tuple(output.shape))


def _in_order(steps: list[_Step]) -> list[_Step]:
    """Sort ``steps`` so that each follows those that it reads, which TensorRT's own order does not guarantee."""
    makers = {step.output: step for step in steps}
    ordered: dict[str, _Step] = {}
    for wanted in steps:
        stack = [wanted]
        while stack:
            step = stack[-1]
            missing = [name for name in step.inputs if name in makers and name not in ordered]
            if not missing:
                ordered.setdefault(step.output, step)
                stack.pop()
            else:
                stack += [makers[name] for name in missing]
    return list(ordered.values())


class ParsedRuntime(Runtime):
    """Runs the parsed network through the interface of an engine, so that the check of an artifact can use it.

    ``session`` is a ``BuildSession`` of the TensorRT runtime's builder that has parsed the model.
    """

    name = "tensorrt-parsed"
    target = "trt"

    def __init__(self, artifact: Artifact, session: Any, rounding: Rounding = DECLARED, ablated: str = "") -> None:
        super().__init__((), artifact.inputs, artifact.outputs)
        self._session, self._rounding, self._ablated = session, rounding, ablated

    @classmethod
    def available(cls) -> Availability:
        """Whether TensorRT for RTX, which parses without a GPU, is installed."""
        return installed("tensorrt_rtx", extra="trt")

    def _load(self) -> None:
        self._network = ParsedNetwork(self._session.trt, self._session.network, self._session)

    def _run(self, inputs: dict[str, Array]) -> dict[str, Array]:
        with words_of("the NumPy interpreter", "run the parsed network"):
            return self._network.run(inputs, self._rounding, self._ablated)

    def _close(self) -> None:
        del self._network

    def facts(self) -> EngineFacts:
        """Which parser, and which model of rounding."""
        trt = self._session.trt
        return EngineFacts(f"NumPy on the network parsed by {trt.__name__} {trt.__version__}", np.__version__)
