"""Engine ``onnxruntime``: ONNX Runtime's CPU provider. Device-safe: standard library, numpy and onnxruntime."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from ulsam_deploy.contracts import Availability, Runtime, TensorSpec
from ulsam_deploy.external_data import inside, stored_locations
from ulsam_deploy.third_party import installed, words_of

from .ports import check_ports

#: ONNX Runtime's word for a tensor's element type, and ours.
PRECISIONS = {"tensor(float)": "fp32", "tensor(float16)": "fp16", "tensor(double)": "fp64"}
DTYPES = {"tensor(float)": "float32", "tensor(float16)": "float16", "tensor(double)": "float64"}


class OnnxRuntime(Runtime):
    """One session on the CPU provider with all graph optimizations."""

    name = "onnxruntime"
    target = "onnx"
    opens = (".onnx",)
    script = """\
import onnxruntime


def run(path, inputs):
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return dict(zip([output.name for output in session.get_outputs()], session.run(None, inputs)))
"""

    @classmethod
    def files_of(cls, path: Path) -> tuple[Path, ...]:
        """The model and its external data, refused where it lies outside the model's folder."""
        from . import onnx_graph

        return onnx_graph.files_of(path)

    @classmethod
    def available(cls) -> Availability:
        """Whether onnxruntime is installed."""
        return installed("onnxruntime", extra="onnx")

    def _load(self) -> None:
        import onnxruntime

        # Newer versions look themselves; on a board there may be an older one.
        for location in stored_locations(memoryview(self.files[0].read_bytes())):
            inside(self.files[0], location)
        self._session = self._open(os.fspath(self.files[0]))
        check_ports("input", self.inputs, _shapes(self._session.get_inputs()))
        check_ports("output", self.outputs, _shapes(self._session.get_outputs()))
        self._names = [spec.name for spec in self.outputs]
        self._version = onnxruntime.__version__

    def _open(self, model: str | bytes) -> Any:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
        options.intra_op_num_threads = self.threads or 0
        options.log_severity_level = 4  # its errors come back as exceptions; don't print them as well
        folder = os.fspath(self.files[0].resolve().parent)
        options.add_session_config_entry("session.model_external_initializers_file_folder_path", folder)
        with words_of("ONNX Runtime", f"open {self.files[0].name}"):
            return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])

    def ports(self) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
        """Inputs and outputs as the session states them."""
        return _specs(self._session.get_inputs()), _specs(self._session.get_outputs())

    def _values(self, inputs: dict[str, np.ndarray[Any, Any]]) -> dict[str, np.ndarray[Any, Any]]:
        from . import onnx_graph

        model, names = onnx_graph.exposed(self.files[0])
        session = self._open(model)
        shown = {port.name for port in session.get_outputs() if port.type in PRECISIONS}  # numpy has no bfloat16
        names = [name for name in names if name in shown]
        with words_of("ONNX Runtime", "run the model with all of its values as outputs"):
            produced = dict(zip(names, session.run(names, inputs)))
        return {name: a for name, a in produced.items() if isinstance(a, np.ndarray) and a.dtype.kind == "f"}

    def _run(self, inputs: dict[str, np.ndarray[Any, Any]]) -> dict[str, np.ndarray[Any, Any]]:
        with words_of("ONNX Runtime", "run the model"):
            return dict(zip(self._names, self._session.run(self._names, inputs)))

    def _close(self) -> None:
        del self._session

    def facts(self) -> dict[str, Any]:
        """Engine, version, threads (0: as many as cores), precision as the model states it: the engine keeps to it."""
        options = self._session.get_session_options()
        element = self._session.get_inputs()[0].type
        return {
            "engine": "ONNX Runtime",
            "version": self._version,
            "provider": self._session.get_providers()[0],
            "threads": options.intra_op_num_threads,
            "precision": PRECISIONS.get(element, element),
        }


def _specs(ports: Any) -> tuple[TensorSpec, ...]:
    shapes = _shapes(ports)
    return tuple(TensorSpec(port.name, shapes[port.name], DTYPES.get(port.type, port.type)) for port in ports)


def _shapes(ports: Any) -> dict[str, tuple[int | None, ...]]:
    """Shapes by name; ONNX Runtime gives a dynamic axis as a string."""
    return {port.name: tuple(size if isinstance(size, int) else None for size in port.shape) for port in ports}
