"""Engine ``openvino``: OpenVINO's CPU plug-in, fp32 kept fp32. Device-safe: standard library, numpy and openvino."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np

from ulsam_deploy.contracts import Availability, Runtime
from ulsam_deploy.third_party import installed, load_openvino, quiet, words_of

from .ports import check_ports


class OpenVino(Runtime):
    """One compiled model and one infer request.

    ``INFERENCE_PRECISION_HINT`` is forced to f32: left alone, the plug-in silently computes an fp32 model in bf16 on
    CPUs that have it and in f16 on ARM.
    """

    name = "openvino"
    target = "openvino"

    @classmethod
    def available(cls) -> Availability:
        """Whether openvino is installed."""
        return installed("openvino", extra="openvino")

    def _load(self) -> None:
        openvino = load_openvino()
        config: dict[str, Any] = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"}
        if self.threads is not None:
            config["INFERENCE_NUM_THREADS"] = self.threads
        with words_of("OpenVINO", f"open {self.files[0].name}"), quiet():
            self._model = openvino.Core().compile_model(self.files[0], "CPU", config)
        check_ports("input", self.inputs, _shapes(self._model.inputs))
        check_ports("output", self.outputs, _shapes(self._model.outputs))
        self._request = self._model.create_infer_request()
        self._version = openvino.get_version()

    def _run(self, inputs: dict[str, np.ndarray[Any, Any]]) -> dict[str, np.ndarray[Any, Any]]:
        with words_of("OpenVINO", "run the model"):
            produced = self._request.infer(inputs, share_inputs=True)
            return {spec.name: produced[spec.name] for spec in self.outputs}

    def _close(self) -> None:
        del self._request, self._model

    def facts(self) -> dict[str, Any]:
        """Engine, version, threads, the precision hint in force, and the precisions of the layers that really run."""
        layers = Counter(
            info["runtimePrecision"].astype(str)
            for info in (op.get_rt_info() for op in self._model.get_runtime_model().get_ops())
            if info["layerType"].astype(str) not in ("Input", "Output", "Const")
        )
        hint = self._model.get_property("INFERENCE_PRECISION_HINT").to_string()
        return {
            "engine": "OpenVINO",
            "version": self._version,
            "threads": self._model.get_property("INFERENCE_NUM_THREADS"),
            "precision": {"f32": "fp32", "f16": "fp16"}.get(hint, hint),
            "layer_precisions": dict(sorted(layers.items())),
        }


def _shapes(ports: Any) -> dict[str, tuple[int | None, ...]]:
    """Shapes by each of a port's names."""
    shapes = {}
    for port in ports:
        shape = tuple(None if size.is_dynamic else size.get_length() for size in port.get_partial_shape())
        shapes.update(dict.fromkeys(port.get_names(), shape))
    return shapes
