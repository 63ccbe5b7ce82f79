"""What ONNX Runtime runs on: the CPU, CUDA or TensorRT, and whether it really did.

ONNX Runtime continues on the CPU, with a line on stdout at most, if the provider that was asked for does not start, if
it fails in a run, or operator by operator. Here the first two are errors, and the third is counted. Device-safe.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ulsam_deploy.device.errors import UnavailableError
from ulsam_deploy.device.third_party import quiet

from .. import advice
from ..tensorrt import cuda

CPU = "CPUExecutionProvider"
#: ONNX Runtime's name of each provider, and the options with which fp32 is fp32; the CUDA provider's default is TF32.
PROVIDERS: Mapping[str, tuple[str, Mapping[str, str]]] = {
    "cpu": (CPU, {}),
    "cuda": ("CUDAExecutionProvider", {"use_tf32": "0"}),
    "tensorrt": ("TensorrtExecutionProvider", {}),
}


@dataclass(frozen=True)
class Provider:
    """A provider by one of the names in :data:`PROVIDERS`; empty: the CPU."""

    name: str

    @property
    def own(self) -> str:
        """ONNX Runtime's name of it."""
        return PROVIDERS[self.name or "cpu"][0]

    @property
    def gpu(self) -> str:
        """The GPU that it runs on; empty on the CPU."""
        return "" if self.own == CPU else cuda.machine().gpu

    def check(self) -> None:
        """Raise :class:`UnavailableError` unless this ONNX Runtime has the provider and this machine a GPU for it."""
        import onnxruntime

        if self.own == CPU:
            return
        there = onnxruntime.get_available_providers()
        if self.own not in there:
            raise UnavailableError(
                f"onnxruntime {onnxruntime.__version__} has no {self.own}",
                expected=", ".join(there),
                todo=advice.onnxruntime_gpu(),
            )
        if gap := cuda.missing():
            raise UnavailableError(f"{self.own} needs an NVIDIA GPU: {gap}", todo="take --provider cpu")

    def session(self, model: str | bytes, options: Any) -> Any:
        """Open ``model`` on this provider; raises :class:`UnavailableError` if it does not start there."""
        import onnxruntime

        name, own = PROVIDERS[self.name or "cpu"]
        if name == CPU:
            return onnxruntime.InferenceSession(model, options, providers=[CPU])
        os.environ.setdefault("NVIDIA_TF32_OVERRIDE", "0")  # TensorRT reads it, and has no option in ONNX Runtime
        wanted = [(name, dict(own)), CPU]
        try:
            with quiet():  # prints about every library that it doesn't find
                if preload := getattr(onnxruntime, "preload_dlls", None):  # as of 1.21: finds pip's CUDA and cuDNN
                    preload()
                session = onnxruntime.InferenceSession(model, options, providers=wanted, enable_fallback=0)
        except Exception as error:
            raise self._not_started(str(error)) from error
        if (first := session.get_providers()[0]) != name:
            raise self._not_started(f"ONNX Runtime fell back to {first}")
        return session

    def _not_started(self, why: str) -> UnavailableError:
        return UnavailableError(
            f"{self.own} did not start: {why}",
            expected="the CUDA and cuDNN (or TensorRT) libraries that onnxruntime-gpu was built for",
            todo="pip install 'onnxruntime-gpu[cuda,cudnn]', or take --provider cpu",
        )

    def kernels(self, events: Sequence[Mapping[str, Any]]) -> dict[str, int]:
        """The number of kernels in the engine's profile that ran on each provider; empty on the CPU, which runs all.

        Raises :class:`UnavailableError` if none ran on this one.
        """
        if self.own == CPU:
            return {}
        found = Counter(str(event["args"].get("provider", "")) for event in events)
        if events and not found[self.own]:
            raise UnavailableError(
                f"ONNX Runtime ran all {len(events)} operators of this model elsewhere: none on {self.own}",
                todo="take --provider cpu",
            )
        return {f"kernels on {name}": count for name, count in sorted(found.items())}
