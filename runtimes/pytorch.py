"""Engine ``pytorch``: the eager module itself, the baseline that artifacts are compared with. Not device-safe.

torch is imported only when it is used, so that listing the engines does not load it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ulsam_deploy.device.arrays import Array
from ulsam_deploy.device.errors import UsageError
from ulsam_deploy.device.findings import EngineFacts
from ulsam_deploy.device.runtime import Runtime
from ulsam_deploy.device.third_party import installed, words_of
from ulsam_deploy.device.types import Availability, TensorSpec

if TYPE_CHECKING:
    from torch import nn


class PyTorch(Runtime):
    """An ``nn.Module`` in eager mode with the same interface. Created by :meth:`of`, because no artifact is opened."""

    name = "pytorch"
    target = "pytorch"
    _module: nn.Module | None = None

    @classmethod
    def of(
        cls,
        module: nn.Module,
        inputs: Sequence[TensorSpec],
        outputs: Sequence[TensorSpec],
        *,
        threads: int | None = None,
    ) -> PyTorch:
        """Make the baseline of ``module``, which the caller has put into ``eval`` mode and the right dtype."""
        runtime = cls((), inputs, outputs, threads=threads)
        runtime._module = module
        return runtime

    @classmethod
    def available(cls) -> Availability:
        """Whether torch is installed."""
        return installed("torch", extra="export")

    def _load(self) -> None:
        if self._module is None:
            raise UsageError(
                "the PyTorch baseline has no artifact to open", todo="make it with PyTorch.of(module, ...)"
            )
        import torch

        self._threads_before = torch.get_num_threads()
        if self.threads is not None:
            torch.set_num_threads(self.threads)

    def _run(self, inputs: dict[str, Array]) -> dict[str, Array]:
        import torch

        assert self._module is not None
        with words_of("PyTorch", "run the network"), torch.inference_mode():
            produced = self._module(*(torch.from_numpy(inputs[spec.name]) for spec in self.inputs))
        flat = produced if isinstance(produced, (tuple, list)) else (produced,)
        return {spec.name: value.numpy() for spec, value in zip(self.outputs, flat)}

    def _close(self) -> None:
        import torch

        torch.set_num_threads(self._threads_before)

    def facts(self) -> EngineFacts:
        """Engine, version, threads, and the dtype of the parameters."""
        import torch

        parameter = next(self._module.parameters(), None) if self._module is not None else None
        names = {torch.float32: "fp32", torch.float16: "fp16", torch.float64: "fp64"}
        return EngineFacts(
            engine="PyTorch",
            version=str(torch.__version__),
            threads=torch.get_num_threads(),
            precision=names.get(torch.float32 if parameter is None else parameter.dtype, "mixed"),
        )
