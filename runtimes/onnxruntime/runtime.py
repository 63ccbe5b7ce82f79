"""Engine ``onnxruntime``: ONNX Runtime. Device-safe: standard library, numpy and onnxruntime."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ulsam_deploy.device.arrays import Array
from ulsam_deploy.device.data_files import contents
from ulsam_deploy.device.external_data import LARGEST, inside, stored_locations
from ulsam_deploy.device.files import scratch
from ulsam_deploy.device.findings import EngineFacts
from ulsam_deploy.device.runtime import Runtime
from ulsam_deploy.device.third_party import installed, words_of
from ulsam_deploy.device.types import Availability, StepGrid, TensorSpec

from .. import advice
from ..ports import check_ports
from .providers import PROVIDERS, Provider

#: ONNX Runtime's name of a tensor's element type, and ours.
PRECISIONS = {"tensor(float)": "fp32", "tensor(float16)": "fp16", "tensor(double)": "fp64"}
DTYPES = {"tensor(float)": "float32", "tensor(float16)": "float16", "tensor(double)": "float64"}
#: The profiler's name of an element type, and ours.
_KERNEL_TYPES = {"int8": "int8", "uint8": "int8", "float16": "fp16", "float": "fp32", "double": "fp64"}
#: Kernels that only change how a value is stored.
_STORAGE = ("Cast", "DequantizeLinear", "QuantizeLinear")
_LOWEST_FIRST = ("int8", "fp16", "fp32", "fp64")


class OnnxRuntime(Runtime):
    """One session with all graph optimizations, on the CPU unless another provider is asked for."""

    name = "onnxruntime"
    target = "onnx"
    aliases = ("ort",)
    opens = (".onnx",)
    precisions = ("fp32", "fp16", "int8")
    providers = tuple(PROVIDERS)
    script = """\
import onnxruntime
session = onnxruntime.InferenceSession(PATH, providers=["CPUExecutionProvider"])
outputs = dict(zip([output.name for output in session.get_outputs()], session.run(None, inputs)))
"""

    @classmethod
    def files_of(cls, path: Path) -> tuple[Path, ...]:
        """The model and its external data, which is refused outside the model's folder."""
        from . import graph

        return graph.files_of(path)

    @classmethod
    def available(cls) -> Availability:
        """Whether onnxruntime is installed."""
        return installed("onnxruntime", todo=advice.onnxruntime())

    def _load(self) -> None:
        import onnxruntime

        self._provider = Provider(self.provider)
        self._provider.check()
        # Newer versions check this themselves, but a board may have an older one.
        with words_of("ONNX Runtime", f"open {self.files[0].name}"):
            found = stored_locations(contents(self.files[0], LARGEST))
        for location in found:
            inside(self.files[0], location)
        self._session = self._open(os.fspath(self.files[0]))
        check_ports("input", self.inputs, _shapes(self._session.get_inputs()))
        check_ports("output", self.outputs, _shapes(self._session.get_outputs()))
        self._names = [spec.name for spec in self.outputs]
        self._version = onnxruntime.__version__

    def _open(self, model: str | bytes, options: Any = None) -> Any:
        import onnxruntime

        options = options or onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
        options.intra_op_num_threads = self.threads or 0
        options.log_severity_level = 4  # its errors are raised as exceptions; don't print them as well
        folder = os.fspath(self.files[0].resolve().parent)
        options.add_session_config_entry("session.model_external_initializers_file_folder_path", folder)
        with words_of("ONNX Runtime", f"open {self.files[0].name}"):
            return self._provider.session(model, options)

    def ports(self) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
        """The inputs and outputs as the session reports them."""
        return _specs(self._session.get_inputs()), _specs(self._session.get_outputs())

    def _values(self, inputs: dict[str, Array]) -> dict[str, Array]:
        from . import graph

        model, names = graph.exposed(self.files[0])
        session = self._open(model)
        shown = {port.name for port in session.get_outputs() if port.type in PRECISIONS}  # numpy has no bfloat16
        names = [name for name in names if name in shown]
        with words_of("ONNX Runtime", "run the model with all of its values as outputs"):
            produced = dict(zip(names, session.run(names, inputs)))
        return {name: a for name, a in produced.items() if isinstance(a, np.ndarray) and a.dtype.kind == "f"}

    def grids(self) -> Mapping[str, StepGrid]:
        """What each ``DequantizeLinear`` gives."""
        from . import graph

        return graph.grids(self.files[0])

    def _run(self, inputs: dict[str, Array]) -> dict[str, Array]:
        with words_of("ONNX Runtime", "run the model"):
            return dict(zip(self._names, self._session.run(self._names, inputs)))

    def _close(self) -> None:
        del self._session

    def facts(self) -> EngineFacts:
        """Engine, version, threads (0: one for each core), and what its kernels really read and really ran on.

        ``precision`` is the lowest of any kernel; ``layer_precisions`` counts kernels by the lowest that they read, and
        ``details`` by provider. Raises :class:`UnavailableError` if no kernel ran on the provider that was asked for.
        """
        options = self._session.get_session_options()
        kernels = self._kernels()
        computing = (event["args"] for event in kernels if event["args"]["op_name"] not in _STORAGE)
        found = Counter(_lowest(arguments.get("input_type_shape", ())) for arguments in computing)
        layers = dict(sorted(found.items()))
        return EngineFacts(
            engine="ONNX Runtime",
            version=self._version,
            provider=self._provider.own,
            gpu=self._provider.gpu,
            threads=options.intra_op_num_threads,
            precision=next((name for name in _LOWEST_FIRST if name in layers), "unknown"),
            layer_precisions=layers,
            details=self._provider.kernels(kernels),
        )

    def _kernels(self) -> list[dict[str, Any]]:
        """Every kernel of one run, from the engine's own profile."""
        import onnxruntime

        with scratch() as folder:
            options = onnxruntime.SessionOptions()
            options.enable_profiling, options.profile_file_prefix = True, str(folder / "profile")
            session = self._open(os.fspath(self.files[0]), options)
            zeros = {spec.name: np.zeros([size or 1 for size in spec.shape], spec.dtype) for spec in self.inputs}
            session.run(None, self._ready(zeros))
            events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
        return [event for event in events if event.get("cat") == "Node" and event["name"].endswith("_kernel_time")]


def _lowest(types: Sequence[Mapping[str, object]]) -> str:
    """The lowest precision among the tensors that a kernel reads; shapes and indices do not count."""
    read = {_KERNEL_TYPES.get(name, "other") for tensor in types for name in tensor}
    return next((name for name in _LOWEST_FIRST if name in read), "other")


def _specs(ports: Any) -> tuple[TensorSpec, ...]:
    shapes = _shapes(ports)
    return tuple(TensorSpec(port.name, shapes[port.name], DTYPES.get(port.type, port.type)) for port in ports)


def _shapes(ports: Any) -> dict[str, tuple[int | None, ...]]:
    """Shapes by name; ONNX Runtime reports a dynamic axis as a string."""
    return {port.name: tuple(size if isinstance(size, int) else None for size in port.shape) for port in ports}
