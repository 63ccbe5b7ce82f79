"""Engine ``tflite-micro``: TensorFlow Lite for Microcontrollers, by its package for this machine. Device-safe.

Its kernels are those that run on a microcontroller without an operating system; here they show what it makes of a file,
not how fast. What it cannot read it takes for empty in some cases, so that every file is run by it as well.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from typing import Any

import numpy as np

from ulsam_deploy.device.arrays import Array
from ulsam_deploy.device.findings import EngineFacts
from ulsam_deploy.device.runtime import Runtime
from ulsam_deploy.device.third_party import installed, quiet, version, words_of
from ulsam_deploy.device.types import Availability, TensorSpec

from . import advice
from .ports import SteppedPorts, Steps, check_ports
from .tflite import lowest_precision

#: What it prints of a reason; it raises something vaguer.
_REASONS = "error|not supported|failed|not true|find op|unsupported|not match"
#: Memory in bytes for each operator beside the tensors, and for copies of what is in the file.
_EACH, _COPIES = 1 << 12, 2


class TFLiteMicro(SteppedPorts, Runtime):
    """One interpreter, whose memory is one block of a fixed size: here all tensors of the file side by side."""

    name = "tflite-micro"
    target = "tflite"
    aliases = ("tflm",)
    preference = 2
    opens = (".tflite",)
    precisions = ("fp32", "int8")
    script = """\
from tflite_micro import runtime
engine = runtime.Interpreter.from_file(PATH, arena_size=1 << 28)
for number, array in enumerate(inputs.values()):
    engine.set_input(array, number)
engine.invoke()
outputs = {name: engine.get_output(number) for number, name in enumerate(OUTPUTS)}
"""

    @classmethod
    def available(cls) -> Availability:
        """Whether the package is installed."""
        return installed("tflite_micro", todo=advice.tflite_micro())

    def _load(self) -> None:
        with words_of("TFLite Micro", f"open {self.files[0].name}"), quiet(telling=_REASONS):
            schema = import_module("tflite_micro.tensorflow.lite.micro.python.schema_py_generated")
            content = self.files[0].read_bytes()
            model = schema.ModelT.InitFromObj(schema.Model.GetRootAsModel(content, 0))
            self._inputs, self._outputs = _ports(schema, model, "inputs"), _ports(schema, model, "outputs")
            self._steps = {**_steps(schema, model, "inputs"), **_steps(schema, model, "outputs")}
            self._kinds = {_kind(schema, tensor) for tensor in model.subgraphs[0].tensors}
            self._interpreter = import_module("tflite_micro").runtime.Interpreter.from_bytes(
                content, arena_size=_arena(model) + _COPIES * len(content)
            )
        check_ports("input", self.inputs, {spec.name: spec.shape for spec in self._inputs})
        check_ports("output", self.outputs, {spec.name: spec.shape for spec in self._outputs})

    def ports(self) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
        """The inputs and outputs of the only signature, or of the whole graph if the file has none."""
        return self._inputs, self._outputs

    def _run(self, inputs: dict[str, Array]) -> dict[str, Array]:
        with words_of("TFLite Micro", "run the model"), quiet(telling=_REASONS):
            for number, spec in enumerate(self._inputs):
                self._interpreter.set_input(inputs[spec.name], number)
            self._interpreter.invoke()
            numbers = {spec.name: number for number, spec in enumerate(self._outputs)}
            # A copy: it belongs to the interpreter's memory, which the next run overwrites.
            return {s.name: np.array(self._interpreter.get_output(numbers[s.name])) for s in self.outputs}

    def _close(self) -> None:
        del self._interpreter

    def facts(self) -> EngineFacts:
        """Engine, version, and the lowest precision of any tensor."""
        return EngineFacts("TFLite Micro", version("tflite-micro"), 1, lowest_precision(self._kinds))


def _kind(schema: Any, tensor: Any) -> str:
    """The type of a tensor as NumPy calls it."""
    return next((name.lower() for name, number in vars(schema.TensorType).items() if number == tensor.type), "unknown")


def _named(model: Any, kind: str) -> Iterator[tuple[str, Any]]:
    """Name and tensor of the ``inputs`` or ``outputs`` in the order of the graph, by which the interpreter counts."""
    graph, signatures = model.subgraphs[0], list(model.signatureDefs or [])
    ports = getattr(signatures[0], kind) if len(signatures) == 1 else ()
    names = {port.tensorIndex: port.name.decode() for port in ports}
    for index in getattr(graph, kind):
        tensor = graph.tensors[index]
        yield names.get(index, tensor.name.decode()), tensor


def _steps(schema: Any, model: Any, kind: str) -> dict[str, Steps]:
    """How those ports store real numbers that do so in integers with one scale."""
    found = {}
    for name, tensor in _named(model, kind):
        stored, scales = tensor.quantization, getattr(tensor.quantization, "scale", None)
        if stored is not None and scales is not None and len(scales) == 1 and "int" in _kind(schema, tensor):
            found[name] = Steps(_kind(schema, tensor), float(scales[0]), int(stored.zeroPoint[0]))
    return found


def _ports(schema: Any, model: Any, kind: str) -> tuple[TensorSpec, ...]:
    steps, found = _steps(schema, model, kind), []
    for name, tensor in _named(model, kind):
        sizes = tensor.shape if tensor.shapeSignature is None else tensor.shapeSignature
        shape = tuple(None if size < 0 else int(size) for size in sizes)
        found.append(TensorSpec(name, shape, "float32" if name in steps else _kind(schema, tensor)))
    return tuple(found)


def _arena(model: Any) -> int:
    """Room for all tensors at once, which is more than the interpreter's own plan of its memory needs."""
    graph = model.subgraphs[0]
    # No type is larger than eight bytes, and a kernel may need a second copy of what it computes.
    values = sum(int(np.prod(tensor.shape)) for tensor in graph.tensors if not _has_data(model, tensor))
    return 16 * values + _EACH * (len(graph.tensors) + len(graph.operators)) + (1 << 20)


def _has_data(model: Any, tensor: Any) -> bool:
    data = model.buffers[tensor.buffer].data
    return data is not None and len(data) > 0
