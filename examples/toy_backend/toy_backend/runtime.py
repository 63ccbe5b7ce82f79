"""Runs ``model.pt2``. The base class checks names, shapes, dtypes and layouts; this class only calls the engine."""

from __future__ import annotations

from typing import Any

import numpy as np

from ulsam_deploy.device.findings import EngineFacts
from ulsam_deploy.device.runtime import Runtime
from ulsam_deploy.device.third_party import installed, words_of
from ulsam_deploy.device.types import Availability


class Pt2(Runtime):
    """One loaded program in eager torch."""

    name = "pt2"
    target = "pt2"

    @classmethod
    def available(cls) -> Availability:
        """Whether torch is installed."""
        return installed("torch", extra="export")

    def _load(self) -> None:
        import torch

        with words_of("torch.export", f"open {self.files[0].name}"):
            self._module = torch.export.load(self.files[0]).module()

    def _run(self, inputs: dict[str, np.ndarray[Any, Any]]) -> dict[str, np.ndarray[Any, Any]]:
        import torch

        with words_of("torch", "run the network"), torch.inference_mode():
            produced = self._module(*(torch.from_numpy(inputs[spec.name]) for spec in self.inputs))
        several = produced if isinstance(produced, (tuple, list)) else (produced,)
        return {spec.name: value.numpy() for spec, value in zip(self.outputs, several)}

    def _close(self) -> None:
        del self._module

    def facts(self) -> EngineFacts:
        """Engine, version and threads; the precision is the file's."""
        import torch

        version = str(torch.__version__)  # a plain str, because facts are stored as JSON
        return EngineFacts("torch.export", version, threads=torch.get_num_threads(), precision="fp32")
