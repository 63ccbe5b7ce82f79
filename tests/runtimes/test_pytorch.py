"""The eager baseline behind the runtime's interface."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from ulsam_deploy.device.errors import ExportError, UsageError
from ulsam_deploy.device.findings import EngineFacts
from ulsam_deploy.device.types import TensorSpec
from ulsam_deploy.runtimes.pytorch import PyTorch

INPUTS = (TensorSpec("x", (None, 3, 4, 4)),)
OUTPUTS = (TensorSpec("y", (None, 2, 4, 4)),)


def test_runs_the_module_with_the_threads_asked_for_and_restores_them() -> None:
    module = nn.Conv2d(3, 2, 1).eval()
    before = torch.get_num_threads()
    image = np.ones((5, 3, 4, 4), np.float32)
    with PyTorch.of(module, INPUTS, OUTPUTS, threads=before + 1) as session:
        found = session.run({"x": image})["y"]
        with torch.inference_mode():  # in as many threads: another number may add up in another order
            expected = module(torch.from_numpy(image)).numpy()
        assert session.facts() == EngineFacts("PyTorch", str(torch.__version__), before + 1, "fp32")
    assert torch.get_num_threads() == before
    assert np.array_equal(found, expected)


def test_facts_name_the_parameters_precision() -> None:
    with PyTorch.of(nn.Conv2d(3, 2, 1).half(), INPUTS, OUTPUTS) as session:
        assert session.facts().precision == "fp16"


def test_module_that_cannot_run_is_an_error_in_torchs_words() -> None:
    with PyTorch.of(nn.Linear(7, 2), INPUTS, OUTPUTS) as session, pytest.raises(ExportError, match="mat1 and mat2"):
        session.run({"x": np.zeros((1, 3, 4, 4), np.float32)})


def test_there_is_no_artifact_to_open() -> None:
    with pytest.raises(UsageError, match="no artifact"), PyTorch((), INPUTS, OUTPUTS):
        pass
