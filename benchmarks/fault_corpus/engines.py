"""Artifacts by the public tools, and the engines that run them in many settings."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from torch import nn

from ulsam_deploy.device.engines import produce
from ulsam_deploy.device.parity import Golden
from ulsam_deploy.device.runtime import Runtime
from ulsam_deploy.device.third_party import load_openvino, quiet
from ulsam_deploy.device.types import TensorSpec
from ulsam_deploy.runtimes.onnxruntime.runtime import OnnxRuntime
from ulsam_deploy.runtimes.openvino import OpenVino
from ulsam_deploy.runtimes.tflite import TFLite

from .subjects import Subject

Outputs = dict[str, np.ndarray[Any, Any]]


def naive_onnx(subject: Subject, model: nn.Module, path: Path, *, batch: int | None = None, **options: Any) -> Path:
    """``model`` by torch's older exporter, which everybody has: no part of this project takes part.

    ``batch``: a number, or ``None`` for dynamic.
    """
    program = subject.captured
    names = [spec.name for spec in program.inputs], [spec.name for spec in program.outputs]
    axes = {name: {0: "batch"} for name in (*names[0], *names[1])} if batch is None else None
    content = io.BytesIO()
    with warnings.catch_warnings(), quiet():
        warnings.simplefilter("ignore")  # a deprecated exporter, and a tracer that warns of every shape it reads
        torch.onnx.export(
            model, (torch.zeros(batch or 2, *subject.shape),), content, dynamo=False, input_names=names[0],
            output_names=names[1], dynamic_axes=axes, **{"opset_version": 17, **options},
        )  # fmt: skip
    path.write_bytes(_with_shapes(content.getvalue(), Ports.of(subject, batch)))
    return path


def _with_shapes(content: bytes, ports: Ports) -> bytes:
    """The model with its outputs' sizes, which the tracing exporter leaves open behind a reshape."""
    model = onnx.load_from_string(content)
    for value, spec in zip(model.graph.output, ports.outputs):
        for dim, size in zip(value.type.tensor_type.shape.dim, spec.shape):
            if size is not None:
                dim.dim_value = size
    return model.SerializeToString()


def openvino_from_onnx(onnx: Path, path: Path, *, half: bool = False) -> Path:
    """OpenVINO's reading of ``onnx`` as ``path`` (``.xml``); ``half``: weights stored in float16."""
    openvino = load_openvino()
    with quiet():
        openvino.save_model(openvino.Core().read_model(onnx), path, compress_to_fp16=half)
    return path


@dataclass(frozen=True)
class Ports:
    """Inputs and outputs of an artifact at a batch size (``None``: dynamic)."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]

    @classmethod
    def of(cls, subject: Subject, batch: int | None = None) -> Ports:
        """Those of the network itself."""

        def sized(specs: tuple[TensorSpec, ...]) -> tuple[TensorSpec, ...]:
            return tuple(replace(spec, shape=(batch, *spec.shape[1:])) for spec in specs)

        return cls(sized(subject.captured.inputs), sized(subject.captured.outputs))


class OnnxAt(OnnxRuntime):
    """ONNX Runtime at an optimization level: ``disable_all``, ``basic``, ``extended`` or ``all``."""

    level = "all"

    def _load(self) -> None:
        import onnxruntime

        super()._load()
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = getattr(
            onnxruntime.GraphOptimizationLevel, f"ORT_{self.level.upper()}" if "_" in self.level
            else f"ORT_ENABLE_{self.level.upper()}",
        )  # fmt: skip
        options.intra_op_num_threads = self.threads or 0
        options.log_severity_level = 4
        self._session = onnxruntime.InferenceSession(self.files[0], options, providers=["CPUExecutionProvider"])


def opened(path: Path, ports: Ports, *, threads: int = 1, level: str = "all") -> Runtime:
    """The engine for ``path``, by its suffix."""
    if path.suffix == ".onnx":
        session = OnnxAt([path], ports.inputs, ports.outputs, threads=threads)
        session.level = level
        return session
    engine: type[Runtime] = TFLite if path.suffix == ".tflite" else OpenVino
    files = [path] if path.suffix == ".tflite" else [path, path.with_suffix(".bin")]
    return engine(files, ports.inputs, ports.outputs, threads=threads)


def run(path: Path, ports: Ports, golden: Golden, *, threads: int = 1, level: str = "all") -> Outputs:
    """All probes of ``golden`` through the engine for ``path``; a dynamic batch is run in several sizes."""
    with opened(path, ports, threads=threads, level=level) as runtime:
        return produce(runtime, golden.inputs)


def torch_run(model: Callable[[Any], Any], golden: Golden, names: list[str], batch: int = 8) -> Outputs:
    """All probes through a torch module, eager or compiled, in its own dtype."""
    (images,) = golden.inputs.values()
    with torch.inference_mode():
        parts = [model(torch.from_numpy(images[i : i + batch])) for i in range(0, len(images), batch)]
    flat = [part if isinstance(part, (tuple, list)) else (part,) for part in parts]
    return {name: np.concatenate([part[k].numpy() for part in flat]) for k, name in enumerate(names)}
