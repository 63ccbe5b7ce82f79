"""Engine ``openvino``: OpenVINO's CPU plug-in; fp32 stays fp32. Device-safe: standard library, numpy and openvino."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ulsam_deploy.device.arrays import Array
from ulsam_deploy.device.findings import EngineFacts
from ulsam_deploy.device.runtime import Runtime
from ulsam_deploy.device.third_party import installed, load_openvino, quiet, words_of
from ulsam_deploy.device.types import Availability, StepGrid, TensorSpec

from . import advice
from .ports import check_ports

_PRECISION = "INFERENCE_PRECISION_HINT"


class OpenVino(Runtime):
    """One compiled model and one infer request.

    ``INFERENCE_PRECISION_HINT`` is forced to f32, unless it is not to be ``precise``: by default, the plug-in silently
    computes an fp32 model in bf16 on CPUs that support it and in f16 on ARM. No setting inside the file prevents that.
    """

    name = "openvino"
    target = "openvino"
    aliases = ("ov",)
    opens = (".xml",)
    precisions = ("fp32", "fp16", "int8")
    script = """\
import openvino
model = openvino.Core().compile_model(PATH, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
outputs = {min(p.names, default=f"output_{i}"): a for i, (p, a) in enumerate(model([*inputs.values()]).items())}
"""

    @classmethod
    def files_of(cls, path: Path) -> tuple[Path, ...]:
        """The ``.xml`` and, if there is one, the ``.bin`` beside it."""
        weights = path.with_suffix(".bin")
        return (path, weights) if weights.exists() else (path,)

    @classmethod
    def available(cls) -> Availability:
        """Whether openvino is installed."""
        return installed("openvino", todo=advice.openvino())

    @classmethod
    def default_precision(cls) -> str:
        """``bf16`` or ``f16`` where the CPU plug-in chooses that for float32 models; empty elsewhere."""
        with words_of("OpenVINO", "say what it computes in"), quiet():
            chosen = load_openvino().Core().get_property("CPU", _PRECISION).to_string()
        return "" if chosen == "f32" else str(chosen)

    def _load(self) -> None:
        self._shown: Any = None
        self._model = self._compile(exposed=False)
        check_ports("input", self.inputs, _shapes(self._model.inputs))
        check_ports("output", self.outputs, _shapes(self._model.outputs))
        self._request = self._model.create_infer_request()
        places = {name: place for place, port in enumerate(self._model.outputs) for name in port.get_names()}
        self._places = [places[spec.name] for spec in self.outputs]  # looking outputs up by name takes microseconds
        self._version = load_openvino().get_version()

    def _compile(self, *, exposed: bool) -> Any:
        openvino = load_openvino()
        config: dict[str, Any] = {"PERFORMANCE_HINT": "LATENCY"}
        if self.precise:
            config[_PRECISION] = "f32"
        if self.threads is not None:
            config["INFERENCE_NUM_THREADS"] = self.threads
        with words_of("OpenVINO", f"open {self.files[0].name}"), quiet():
            core = openvino.Core()
            model = core.read_model(os.fspath(self.files[0]))
            _name_ports(model)
            if exposed:
                self._exposed = _expose(model)
            return core.compile_model(model, "CPU", config)

    def ports(self) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
        """The inputs and outputs as the model declares them."""
        return _specs(self._model.inputs), _specs(self._model.outputs)

    def _values(self, inputs: dict[str, Array]) -> dict[str, Array]:
        if self._shown is None:
            self._shown = self._compile(exposed=True)
        with words_of("OpenVINO", "run the model with all of its values as outputs"):
            produced = self._shown(inputs)
        found = {name: produced[place] for name, place in self._exposed.items()}
        return {name: array for name, array in found.items() if array.dtype.kind == "f"}

    def grids(self) -> Mapping[str, StepGrid]:
        """What each ``FakeQuantize`` gives, and each weight that is stored in 8 bits."""
        with words_of("OpenVINO", f"read {self.files[0].name}"), quiet():
            return _grids(load_openvino().Core().read_model(os.fspath(self.files[0])))

    def _run(self, inputs: dict[str, Array]) -> dict[str, Array]:
        with words_of("OpenVINO", "run the model"):
            produced = self._request.infer(inputs, share_inputs=True).to_tuple()
            return {spec.name: produced[place] for spec, place in zip(self.outputs, self._places)}

    def _close(self) -> None:
        del self._request, self._model, self._shown

    def facts(self) -> EngineFacts:
        """Engine, version, threads, the active precision hint, and the precisions of the layers that are executed."""
        layers = Counter(
            info["runtimePrecision"].astype(str)
            for info in (op.get_rt_info() for op in self._model.get_runtime_model().get_ops())
            if info["layerType"].astype(str) not in ("Input", "Output", "Const")
        )
        hint = self._model.get_property(_PRECISION).to_string()
        computed = {"f32": "fp32", "f16": "fp16"}.get(hint, hint)
        return EngineFacts(
            engine="OpenVINO",
            version=self._version,
            threads=int(self._model.get_property("INFERENCE_NUM_THREADS")),
            precision="int8" if {"i8", "u8"} & set(layers) else computed,
            layer_precisions=dict(sorted(layers.items())),
            details={"default_precision": default} if (default := self.default_precision()) else {},
        )


def _name_ports(model: Any) -> None:
    """Name each input and output without a name: models converted directly from PyTorch have no names."""
    for kind, ports in (("input", model.inputs), ("output", model.outputs)):
        for index, port in enumerate(ports):
            if not port.get_names():
                port.get_tensor().set_names({f"{kind}_{index}"})


def _expose(model: Any) -> dict[str, int]:
    """Make the results of all operators outputs; returns the output of each operator by name, in execution order."""
    inner = [op for op in model.get_ordered_ops() if op.get_type_name() not in ("Parameter", "Constant", "Result")]
    model.add_outputs([port for op in inner for port in op.outputs()])  # skips those that are outputs already
    sources = [result.input_value(0) for result in model.get_results()]
    places = {(port.get_node().get_friendly_name(), port.get_index()): place for place, port in enumerate(sources)}
    keys = [(op.get_friendly_name(), port.get_index()) for op in inner for port in op.outputs()]
    return {f"{name}.{index}" if index else name: places[name, index] for name, index in keys}


def _grids(model: Any) -> dict[str, StepGrid]:
    found = {}
    for op in model.get_ordered_ops():
        sources = [port.get_node() for port in op.input_values()]
        constant = [source.get_type_name() == "Constant" for source in sources]
        if op.get_type_name() == "FakeQuantize" and all(constant[3:]):
            low, high = (np.asarray(source.get_data(), np.float64) for source in sources[3:5])
            step = (high - low) / (op.get_attributes()["levels"] - 1)
            index = op.input_value(0).get_index()
            name = sources[0].get_friendly_name()
            source = "" if constant[0] else f"{name}.{index}" if index else name
        elif op.get_type_name() == "Multiply" and constant[1] and _is_stored_in_8_bits(sources[0]):
            step, source = np.asarray(sources[1].get_data(), np.float64), ""
            low, high = -128 * np.abs(step), 255 * np.abs(step)
        else:
            continue
        axis = next((place for place, size in enumerate(step.shape) if size > 1), 0)
        steps, lowest, highest = (np.broadcast_to(part, step.shape).ravel().tolist() for part in (step, low, high))
        found[op.get_friendly_name()] = StepGrid(tuple(steps), tuple(lowest), tuple(highest), axis, source)
    return found


def _is_stored_in_8_bits(node: Any) -> bool:
    """Whether ``node`` gives a constant of 8 bits, perhaps with its zero point taken off."""
    while node.get_type_name() in ("Convert", "Subtract"):
        node = node.input_value(0).get_node()
    return bool(node.get_type_name() == "Constant" and node.get_element_type().bitwidth == 8)


def _specs(ports: Any) -> tuple[TensorSpec, ...]:
    shapes = _shapes(ports)
    names = [min(port.get_names()) for port in ports]
    kinds = [port.get_element_type() for port in ports]
    return tuple(
        TensorSpec(name, shapes[name], kind.to_dtype().name if kind.is_real() else str(kind))
        for name, kind in zip(names, kinds)
    )


def _shapes(ports: Any) -> dict[str, tuple[int | None, ...]]:
    """Shapes by name; a port may have several names."""
    shapes = {}
    for port in ports:
        shape = tuple(None if size.is_dynamic else size.get_length() for size in port.get_partial_shape())
        shapes.update(dict.fromkeys(port.get_names(), shape))
    return shapes
