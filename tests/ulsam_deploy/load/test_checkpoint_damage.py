"""Weights whose archive contradicts itself are called broken: a flipped bit in a weight is a plausible weight."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch

from ulsam_deploy.device.errors import ExportError
from ulsam_deploy.load.checkpoint import read

from ...hostile import checkpoints
from .test_checkpoint_hostile import saved

DAMAGED = checkpoints.damaged()


@pytest.mark.parametrize("name", DAMAGED)
def test_damage_is_called_broken(tmp_path: Path, name: str) -> None:
    (tmp_path / "model.pt").write_bytes(DAMAGED[name])
    with pytest.raises(ExportError, match=re.escape("model.pt")):
        read(tmp_path / "model.pt")


@pytest.mark.parametrize("options", [{}, {"_use_new_zipfile_serialization": False}, {"pickle_protocol": 3}])
def test_what_torch_writes_is_read(tmp_path: Path, options: dict[str, Any]) -> None:
    """Also two views of one storage, an empty tensor, and each type of number."""
    whole = torch.arange(12.0)
    content = {"w": whole, "v": whole[3:].view(3, 3), "e": torch.zeros(0), "n": torch.tensor([3], dtype=torch.int64)}
    (tmp_path / "model.pt").write_bytes(saved(content, **options))
    found = read(tmp_path / "model.pt").tensors
    assert {name: tensor.tolist() for name, tensor in found.items()} == {k: v.tolist() for k, v in content.items()}


def test_a_file_without_checksums_cannot_be_told_from_a_damaged_one(tmp_path: Path) -> None:
    torch.serialization.set_crc32_options(compute_crc32=False)
    try:
        (tmp_path / "model.pt").write_bytes(saved({"w": torch.ones(3)}))
    finally:
        torch.serialization.set_crc32_options(compute_crc32=True)
    with pytest.raises(ExportError, match="torch was told to write none"):
        read(tmp_path / "model.pt")
