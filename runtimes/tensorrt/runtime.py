"""Engine ``tensorrt``: TensorRT 8.6 to 11, or TensorRT for RTX. Device-safe: standard library, numpy and TensorRT.

Opens a kit (``model.onnx`` and ``build.json``: the engine is first built in memory) or a serialized ``.plan``, which is
checked against its sidecar before TensorRT opens it. An engine is native code: a caller that opens one without a
sidecar has decided to trust it.
"""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

import numpy as np

from ulsam_deploy.device.arrays import Array
from ulsam_deploy.device.errors import ExportError, UnavailableError
from ulsam_deploy.device.findings import EngineFacts
from ulsam_deploy.device.runtime import Runtime
from ulsam_deploy.device.shapes import shape_text
from ulsam_deploy.device.third_party import installed, words_of
from ulsam_deploy.device.types import Availability, TensorSpec

from .. import advice
from ..ports import check_ports
from . import builder as trt_builder
from . import cuda, cuda_graph, engine

#: Modules with the same API, in the order of preference.
MODULES = ("tensorrt", "tensorrt_rtx")
DTYPES = {"FLOAT": "float32", "HALF": "float16", "INT8": "int8", "INT32": "int32", "INT64": "int64", "BOOL": "bool"}


class TensorRT(Runtime):
    """One engine, one context, one stream; ``set_tensor_address`` and ``execute_async_v3`` as of TensorRT 8.5."""

    name = "tensorrt"
    target = "trt"
    aliases = ("tensorrt-rtx",)
    opens = (".plan", ".engine")
    precisions = ("fp32", "fp16", "int8")
    native = True
    #: The device-safe builder, also used by the exporter, which writes kits for it.
    builder = trt_builder

    @classmethod
    def available(cls) -> Availability:
        """Whether there is an NVIDIA GPU (checked first, by ctypes) and a TensorRT module, which is not imported."""
        if gap := cuda.missing():
            return Availability(False, gap, advice.NO_GPU)
        return installed(module_name(), todo=advice.tensorrt())

    @classmethod
    def build(cls, kit: Path, output: Path, *, force: bool = False) -> Path:
        """Build the engine of the ``kit`` folder into ``output``, with its sidecar; returns the engine's path.

        With ``force``, it also replaces a file that is not an engine of an earlier run. Raises
        :class:`UnavailableError` without a GPU or TensorRT, and what :func:`.engine.build_kit` raises.
        """
        return engine.build_kit(kit, output, cls._module(), cuda.machine(), force=force)

    @classmethod
    def _module(cls) -> ModuleType:
        """The TensorRT module, imported only if there is a GPU: without a driver some versions crash the process."""
        here = cls.available()
        if not here.usable:
            raise UnavailableError(here.detail, todo=here.todo)
        return import_module(module_name())

    def _load(self) -> None:
        self._start(self._module(), cuda.Stream(), cuda.machine())

    def _start(self, trt: ModuleType, stream: cuda.Stream, here: cuda.GpuMachine) -> None:
        self._trt, self._stream, self._machine = trt, stream, here
        self._replayed = cuda_graph.Replayed(stream)
        self._said: list[tuple[int, str]] = []
        self._log = trt_builder.logger(trt, self._said)
        with words_of(trt.__name__, f"open {self.files[0].name}"):
            self._runtime = trt.Runtime(self._log)
            self._engine = self._runtime.deserialize_cuda_engine(self._plan())
            if self._engine is None:
                raise ExportError(f"{trt.__name__} {trt.__version__} could not open the engine: {self._errors()}")
            self._context = self._engine.create_execution_context()
        check_ports("input", self.inputs, self._shapes("INPUT"))
        check_ports("output", self.outputs, self._shapes("OUTPUT"))

    def ports(self) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
        """The inputs and outputs as the engine reports them."""
        return self._specs("INPUT"), self._specs("OUTPUT")

    def _specs(self, mode: str) -> tuple[TensorSpec, ...]:
        kinds = {name: self._engine.get_tensor_dtype(name).name for name in self._shapes(mode)}
        return tuple(
            TensorSpec(name, shape, DTYPES.get(kinds[name], kinds[name])) for name, shape in self._shapes(mode).items()
        )

    def _plan(self) -> bytes:
        """The engine's bytes; also records the precision that it was built for."""
        if self.files[0].suffix != ".onnx":
            plan, self._precision = engine.checked_plan(self.files[0], self._trt, self._machine)
            return plan
        recipe = trt_builder.EngineRecipe.from_json(self.files[1].read_text(encoding="utf-8"))
        self._precision = recipe.precision
        return trt_builder.build(self._trt, self.files[0].read_bytes(), recipe).plan

    def _run(self, inputs: dict[str, Array]) -> dict[str, Array]:
        with words_of(self._trt.__name__, "run the engine"):
            bound = {name: self._uploaded(name, array) for name, array in inputs.items()}
            outputs = {spec.name: self._allocated(spec.name) for spec in self.outputs}
            bound |= {name: self._stream.buffer(name, array.nbytes) for name, array in outputs.items()}
            shapes = tuple(array.shape for array in inputs.values())
            self._replayed.run((shapes, *bound.items()), self._enqueue)
            for name, array in outputs.items():
                self._stream.download(name, array)
            self._stream.wait()
        return outputs

    def _enqueue(self) -> None:
        if not self._context.execute_async_v3(self._stream.handle):
            raise ExportError(f"the engine did not run: {self._errors()}")

    def _uploaded(self, name: str, array: Array) -> int:
        """Start the upload of ``array``, set it as the engine's input ``name``, and return its device address."""
        if not self._context.set_input_shape(name, array.shape):
            raise ExportError(f"the engine refused shape {shape_text(array.shape)} for '{name}': {self._errors()}")
        address = self._stream.upload(name, array)
        self._context.set_tensor_address(name, address)
        return address

    def _allocated(self, name: str) -> Array:
        """A host array for the output ``name`` at the current input shapes; binds the output's device buffer."""
        dtype = DTYPES[self._engine.get_tensor_dtype(name).name]
        array: Array = np.empty(tuple(self._context.get_tensor_shape(name)), dtype)
        self._context.set_tensor_address(name, self._stream.buffer(name, array.nbytes))
        return array

    def _close(self) -> None:
        self._replayed.close()
        self._stream.close()
        del self._context, self._engine, self._runtime

    def facts(self) -> EngineFacts:
        """Engine, version, machine, layers, CUDA graphs (or why there are none), and the precision of its build."""
        machine = self._machine
        return EngineFacts(
            engine="TensorRT for RTX" if self._trt.__name__ == "tensorrt_rtx" else "TensorRT",
            version=str(self._trt.__version__),
            threads=0,
            precision=self._precision,
            gpu=machine.gpu,
            details={
                "layers": int(self._engine.num_layers),
                "cuda_graphs": self._replayed.refused or self._replayed.recorded,
                "capability": machine.capability,
                "driver": machine.driver,
                "cuda": machine.cuda,
                "architecture": machine.architecture,
            },
        )

    def _shapes(self, mode: str) -> dict[str, tuple[int | None, ...]]:
        names = [self._engine.get_tensor_name(index) for index in range(self._engine.num_io_tensors)]
        return {
            name: tuple(None if size < 0 else int(size) for size in self._engine.get_tensor_shape(name))
            for name in names
            if self._engine.get_tensor_mode(name).name == mode
        }

    def _errors(self) -> str:
        return "; ".join(text for severity, text in self._said if severity <= 1) or "no reason given"


def module_name() -> str:
    """The first installed module of :data:`MODULES`; the first of the list if none is."""
    return next((name for name in MODULES if find_spec(name) is not None), MODULES[0])
