"""What one target or precision cannot do costs nobody else: an overflow in float16, a converter that crashes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import ulsam_deploy as ud
from ulsam_deploy.device.errors import Exit
from ulsam_deploy.device.progress import Progress
from ulsam_deploy.exporting import parallel, pipeline
from ulsam_deploy.exporting.options import ExportOptions

VOLUME = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.p, self.b = nn.Conv3d(1, 4, 3, 2, 1), nn.MaxPool3d(3, 1, 1), nn.Linear(4, 3)

    def forward(self, x):
        return self.b(self.p(torch.relu(self.a(x))).mean((2, 3, 4)))
"""


class Loud(nn.Module):
    """Its second convolution reaches what float16 does not have."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3), nn.Linear(4, 2)
        self.b.weight.data *= 3e6
        self.c.weight.data *= 1e-6

    def forward(self, x: Tensor) -> Tensor:
        return torch.as_tensor(self.c(self.b(torch.relu(self.a(x))).mean((2, 3))))


def test_an_overflow_in_float16_leaves_float32_and_names_the_module(tmp_path: Path) -> None:
    torch.manual_seed(0)
    torch.save(Loud().state_dict(), tmp_path / "loud.pt")
    options = ExportOptions(
        tmp_path / "loud.pt",
        factory=f"{__name__}:Loud",
        inputs=((3, 12, 12),),
        targets=("onnx",),
        precisions=("fp32", "fp16"),
        output=tmp_path / "b",
    )
    done = pipeline.export(options, Progress(quiet=True))
    good, bad = done.outcomes
    assert good.built
    assert good.precision == "fp32"
    assert bad.error
    assert "overflows float16" in bad.error.found
    assert "first in module 'b', which reaches" in bad.error.found
    assert done.exit_code is Exit.EXPORT_FAILED
    assert ud.open(tmp_path / "b", "onnx") is not None


@pytest.mark.long
def test_a_converter_that_crashes_takes_its_target_along(tmp_path: Path) -> None:
    """litert-torch ends its process with SIGSEGV on three-dimensional convolutions."""
    (tmp_path / "volume.py").write_text(VOLUME)
    make = "import torch, volume; torch.save(volume.Net().state_dict(), 'volume.pt')"
    subprocess.run([sys.executable, "-c", make], cwd=tmp_path, check=True)
    words = ["export", "volume.pt", "--model", "volume:Net", "--input", "1x8x8x8", "--target", "onnx,tflite", "-o", "b"]
    done = subprocess.run(
        [sys.executable, "-m", "ulsam_deploy", *words], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == Exit.EXPORT_FAILED
    assert "died with this task, the last one by signal 11" in done.stderr
    assert sorted(path.name for path in (tmp_path / "b").iterdir() if path.is_dir()) == ["onnx"]
    assert not list(tmp_path.glob(".*partial*"))


@pytest.mark.long
def test_operators_of_the_users_own_code_stay_in_this_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process does not have them; converters know them only decomposed, which the plain network shows."""
    asked: list[list[str]] = []

    def handed_out(groups: parallel.Groups, *_: object) -> dict[object, object]:
        asked.append(sorted(groups))
        return {}

    monkeypatch.setattr(parallel, "ISOLATE", True)
    monkeypatch.setattr(parallel, "_handed_out", handed_out)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()).eval()
    ud.export(model, "onnx,openvino", inputs=((3, 8, 8),), output=tmp_path / "a")
    assert asked == [["openvino"]]
    monkeypatch.setattr(parallel, "KNOWN", frozenset({"prims"}))
    ud.export(model, "onnx,openvino", inputs=((3, 8, 8),), output=tmp_path / "b")
    assert asked == [["openvino"]]
