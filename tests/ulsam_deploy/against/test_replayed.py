"""What only replay tells: small parts of an output beside large ones, and rounding that has added up."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import ulsam_deploy as ud
from ulsam_deploy.against import Foreign, Question, verify_against
from ulsam_deploy.cli import main
from ulsam_deploy.device.findings import ReasonKind, ReplayDepth, Verdict
from ulsam_deploy.device.progress import Progress
from ulsam_deploy.exporting.options import ExportOptions

pytestmark = pytest.mark.long

SHAPE = (3, 32, 32)


class Detector(nn.Module):
    """One output with boxes in pixels and class scores in 0..1; ``scale`` is a fault in the scores."""

    def __init__(self, scale: float = 1.0) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU(), nn.Conv2d(8, 8, 3, 2, 1), nn.ReLU())
        self.boxes, self.scores, self.scale = nn.Conv2d(8, 4, 1), nn.Conv2d(8, 3, 1), scale

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return torch.cat([self.boxes(x).abs() * 300, self.scores(x).sigmoid() * self.scale], 1)


class Pooled(nn.Module):
    """The commonest head there is: OpenVINO adds up its mean one value after the other."""

    def __init__(self, norm: nn.Module) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 3, 2, 1, bias=False), norm, nn.ReLU())
        self.head = nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        return torch.as_tensor(self.head(self.stem(x).mean((2, 3))))


def detector() -> nn.Module:
    torch.manual_seed(0)
    return Detector().eval()


@pytest.fixture
def judged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[float, ReplayDepth], Foreign]:
    """The answer about a plain ONNX export of the detector whose scores are multiplied by a factor."""
    monkeypatch.setattr(sys.modules[__name__], "__name__", "replay_cases")
    monkeypatch.setitem(sys.modules, "replay_cases", sys.modules[detector.__module__])

    def call(scale: float, depth: ReplayDepth) -> Foreign:
        model = detector()
        torch.save(model.state_dict(), tmp_path / "detector.pt")
        faulty = Detector(scale).eval()
        faulty.load_state_dict(model.state_dict())
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.onnx.export(faulty, (torch.zeros(1, *SHAPE),), tmp_path / "detector.onnx", dynamo=False)
        asked = ExportOptions(
            tmp_path / "detector.pt", factory="replay_cases:detector", inputs=(SHAPE,), cache=False, replay=depth
        )
        return verify_against(asked, Question(tmp_path / "detector.onnx"), Progress(quiet=True))

    return call


@pytest.mark.parametrize("scale", [0.0, 1.002])
def test_scores_beside_boxes_are_judged_by_themselves(
    judged: Callable[[float, ReplayDepth], Foreign], scale: float
) -> None:
    found = judged(scale, ReplayDepth.FAST).evidence
    assert found.verdict is Verdict.FAIL
    assert ReasonKind.MODULE_FAULT in {reason.kind for reason in found.reasons}


def test_right_scores_pass(judged: Callable[[float, ReplayDepth], Foreign]) -> None:
    found = judged(1.0, ReplayDepth.FULL).evidence
    assert found.verdict is Verdict.PASS
    assert found.replay is not None
    assert found.replay.proves


@pytest.mark.parametrize(
    ("norm", "target"),
    [(nn.BatchNorm2d, "openvino"), (lambda c: nn.GroupNorm(4, c), "onnx"), (nn.InstanceNorm2d, "onnx")],
)
def test_rounding_that_adds_up_is_no_fault(norm: Callable[[int], nn.Module], target: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = Pooled(norm(16)).train()
    with torch.no_grad():
        for _ in range(20):
            model(torch.randn(8, *SHAPE))
    bundle = ud.export(model.eval(), target, inputs=(SHAPE,), output=tmp_path / "b", cache=False, replay="full")
    (record,) = bundle.manifest.artifacts
    assert record.evidence.verdict is Verdict.PASS
    assert record.evidence.replay is not None
    assert record.evidence.replay.proves
    code = main(["verify", str(bundle.root)])
    assert code == 0, "without PyTorch, what was recorded about the same bytes holds"
