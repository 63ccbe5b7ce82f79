"""Engines ``tflite`` and ``tflite-runtime``: LiteRT and its predecessor. Device-safe: standard library, numpy and it.

Both packages have the same ``Interpreter``; 32-bit ARM has only the older one.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping
from importlib import import_module
from typing import Any, ClassVar

import numpy as np

from ulsam_deploy.device.arrays import Array
from ulsam_deploy.device.findings import EngineFacts
from ulsam_deploy.device.runtime import Runtime
from ulsam_deploy.device.third_party import installed, quiet, version, words_of
from ulsam_deploy.device.types import Availability, StepGrid, TensorSpec

from . import advice
from .ports import SteppedPorts, Steps, check_ports

_DELEGATE = "DELEGATE"
_TENSOR_BY_TENSOR = """\
from ai_edge_litert.interpreter import Interpreter
engine = Interpreter(PATH)
engine.allocate_tensors()
for port in engine.get_input_details():
    engine.set_tensor(port["index"], inputs[port["name"]])
engine.invoke()
outputs = {port["name"]: engine.get_tensor(port["index"]) for port in engine.get_output_details()}
"""


class TFLite(SteppedPorts, Runtime):
    """One interpreter with the XNNPACK delegate. Inputs are set by index, so that nothing is ever resized silently."""

    name = "tflite"
    target = "tflite"
    aliases: ClassVar[tuple[str, ...]] = ("litert", "ai-edge-litert", "tensorflow-lite")
    opens = (".tflite",)
    precisions = ("fp32", "fp16", "int8", "int8-dynamic")
    #: The package with the interpreter, and what it calls itself.
    package: ClassVar[str] = "ai_edge_litert"
    title: ClassVar[str] = "LiteRT"
    script = """\
from ai_edge_litert.interpreter import Interpreter
outputs = Interpreter(PATH).get_signature_runner()(**inputs)
"""

    @classmethod
    def script_for(cls, facts: EngineFacts) -> str:
        """A script that uses the signature, which nearly every file has; otherwise one that sets each tensor."""
        return cls.script if facts.details.get("signature") else _TENSOR_BY_TENSOR.replace(TFLite.package, cls.package)

    @classmethod
    def available(cls) -> Availability:
        """Whether ai-edge-litert is installed."""
        return installed(cls.package, todo=advice.tflite())

    def _load(self) -> None:
        with words_of(self.title, f"open {self.files[0].name}"), quiet():
            self._interpreter = self._open()
            self._inputs, self._outputs = _ports(self._interpreter)
        self._steps = {name: of for name, port in {**self._inputs, **self._outputs}.items() if (of := _steps(port))}
        check_ports("input", self.inputs, _shapes(self._inputs))
        check_ports("output", self.outputs, _shapes(self._outputs))

    def _open(self, **options: object) -> Any:
        interpreter = import_module(f"{self.package}.interpreter").Interpreter
        opened = interpreter(os.fspath(self.files[0]), num_threads=self.threads, **options)
        opened.allocate_tensors()
        return opened

    def ports(self) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
        """The inputs and outputs of the only signature, or of the whole graph if the file has none.

        One that stores integers with a scale is float32 here: this class converts.
        """
        return _specs(self._inputs), _specs(self._outputs)

    def _values(self, inputs: dict[str, Array]) -> dict[str, Array]:
        plain = import_module(f"{self.package}.interpreter").OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
        with words_of(self.title, "run the model with all of its values kept"), quiet():
            opened = self._open(experimental_op_resolver_type=plain, experimental_preserve_all_tensors=True)
            for name, array in inputs.items():
                opened.set_tensor(self._inputs[name]["index"], array)
            opened.invoke()
            indices = dict.fromkeys(int(index) for op in opened._get_ops_details() for index in op["outputs"])
            details = {detail["index"]: detail for detail in opened.get_tensor_details()}
            arrays = {str(index): _real(opened.get_tensor(index), details[index]) for index in indices}
        return {name: array for name, array in arrays.items() if array.dtype.kind == "f"}

    def grids(self) -> Mapping[str, StepGrid]:
        """Every result of an operator that is stored in int8; what ``QUANTIZE`` rounds is its source."""
        details = {detail["index"]: detail for detail in self._interpreter.get_tensor_details()}
        rounded = {
            int(op["outputs"][0]): str(int(op["inputs"][0]))
            for op in self._interpreter._get_ops_details()
            if op["op_name"] == "QUANTIZE"
        }
        return {
            str(index): _grid(detail, rounded.get(index, ""))
            for index, detail in details.items()
            if detail["dtype"] is np.int8 and detail["quantization"][0]
        }

    def _run(self, inputs: dict[str, Array]) -> dict[str, Array]:
        with words_of(self.title, "run the model"):
            for name, array in inputs.items():
                self._interpreter.set_tensor(self._inputs[name]["index"], array)
            self._interpreter.invoke()
            return {spec.name: self._interpreter.get_tensor(self._outputs[spec.name]["index"]) for spec in self.outputs}

    def _close(self) -> None:
        del self._interpreter

    def facts(self) -> EngineFacts:
        """Engine, version, threads, precision, whether there is a signature, and whether a delegate is in use.

        ``precision`` is the lowest of any operator; ``layer_precisions`` counts operators by the lowest that they read.
        """
        kinds = {
            int(tensor["index"]): np.dtype(tensor["dtype"]).name for tensor in self._interpreter.get_tensor_details()
        }
        operators = self._interpreter._get_ops_details()
        read = [{kinds.get(int(index), "") for index in op["inputs"]} for op in operators if op["op_name"] != _DELEGATE]
        return EngineFacts(
            engine=self.title,
            version=version(self.package),
            threads=self.threads or 1,
            precision=lowest_precision(set(kinds.values())),
            layer_precisions=dict(sorted(Counter(map(lowest_precision, read)).items())),
            details={
                "signature": _has_signature(self._interpreter),
                "delegated": any(op["op_name"] == _DELEGATE for op in operators),
            },
        )


class TFLiteRuntime(TFLite):
    """The interpreter of 2023, which many boards still have, and the only one of 32-bit ARM."""

    name = "tflite-runtime"
    aliases = ()
    preference = 1
    package = "tflite_runtime"
    title = "TensorFlow Lite"
    script = TFLite.script.replace("ai_edge_litert", "tflite_runtime")

    @classmethod
    def available(cls) -> Availability:
        """Whether tflite-runtime is installed, and the NumPy that it was built for."""
        here = installed(cls.package, todo=advice.tflite_runtime())
        if here.usable and not np.__version__.startswith("1."):
            return Availability(
                False, f"{here.detail} was built for NumPy 1; {np.__version__} is here", advice.tflite_runtime()
            )
        return here


def _real(array: Array, detail: Any) -> Array:
    """``array`` as real numbers: dequantized if it is stored in int8."""
    scale, zero = detail["quantization"]
    if array.dtype != np.int8 or not scale:
        return array
    return np.asarray((array.astype(np.float32) - zero) * np.float32(scale))


def _grid(detail: Any, source: str) -> StepGrid:
    scale, zero = (float(part) for part in detail["quantization"])
    return StepGrid((scale,), ((-128 - zero) * scale,), ((127 - zero) * scale,), 0, source)


def _has_signature(interpreter: Any) -> bool:
    """Whether the file has exactly one signature, which names the inputs and outputs."""
    return len(interpreter.get_signature_list()) == 1


def _ports(interpreter: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """The interpreter's details of inputs and of outputs, by name."""
    if _has_signature(interpreter):
        signature = interpreter.get_signature_runner()
        return signature.get_input_details(), signature.get_output_details()
    details = interpreter.get_input_details(), interpreter.get_output_details()
    inputs, outputs = ({detail["name"]: detail for detail in ports} for ports in details)
    return inputs, outputs


def _steps(detail: Any) -> Steps | None:
    """How a port stores real numbers, if it does so in integers with one scale."""
    scale, zero = detail["quantization"]
    dtype = np.dtype(detail["dtype"])
    return Steps(dtype.name, float(scale), int(zero)) if dtype.kind in "iu" and scale else None


def _specs(details: Any) -> tuple[TensorSpec, ...]:
    shapes = _shapes(details)
    kinds = {name: "float32" if _steps(port) else np.dtype(port["dtype"]).name for name, port in details.items()}
    return tuple(TensorSpec(name, shapes[name], kinds[name]) for name in details)


def _shapes(details: Any) -> dict[str, tuple[int | None, ...]]:
    """Shapes by name; the signature shape has -1 for a dynamic axis."""
    return {
        name: tuple(None if size < 0 else int(size) for size in detail["shape_signature"])
        for name, detail in details.items()
    }


def lowest_precision(kinds: set[str]) -> str:
    """The lowest precision among ``kinds``; int32 tensors do not count, as they hold shapes and axes."""
    names = {"int8": "int8", "float16": "fp16", "float32": "fp32"}
    return next((name for kind, name in names.items() if kind in kinds), "unknown")
