"""int8 by real engines: honest artifacts of three toolkits are proven; a wrong scale or module is named."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor, nn

import ulsam_deploy as ud
from ulsam_deploy.against import Foreign, Question, verify_against
from ulsam_deploy.device.arrays import Array
from ulsam_deploy.device.bundle import Bundle
from ulsam_deploy.device.findings import ReasonKind, Verdict
from ulsam_deploy.device.progress import Progress
from ulsam_deploy.exporting.options import ExportOptions

pytestmark = pytest.mark.long

SHAPE = (3, 24, 24)


class Mobile(nn.Module):
    """A pool, a residual, ReLU6, SiLU (whose long flat side makes biases be corrected), and a mean."""

    def __init__(self, pool: nn.Module | None = None) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 3, 2, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU6())
        self.pool = pool or nn.MaxPool2d(3, 1, 1)
        self.depth = nn.Sequential(nn.Conv2d(16, 16, 3, 1, 1, groups=16, bias=False), nn.BatchNorm2d(16), nn.SiLU())
        self.body = nn.Sequential(nn.Conv2d(16, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16))
        self.head = nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(self.stem(x))
        return torch.as_tensor(self.head((x + self.body(self.depth(x))).mean((2, 3))))


class Detector(nn.Module):
    """Boxes in pixels and class scores in 0..1 in one output; ``scale`` is a fault in the scores."""

    def __init__(self, scale: float = 1.0) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.SiLU())
        self.boxes, self.scores, self.scale = nn.Conv2d(8, 4, 1), nn.Conv2d(8, 3, 1), scale

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return torch.cat([self.boxes(x).abs() * 300, self.scores(x).sigmoid() * self.scale], 1)


def pictures(count: int, seed: int) -> Array:
    random = np.random.default_rng(seed)
    parts = (np.kron(random.normal(size=(count, 3, k, k)), np.ones((24 // k, 24 // k))) for k in (2, 6, 24))
    return np.asarray(sum(parts), np.float32)


def trained(kind: type[nn.Module] = Mobile) -> nn.Module:
    torch.manual_seed(0)
    model = kind().train()
    with torch.no_grad():
        for number in range(10):
            model(torch.from_numpy(pictures(16, number)))
    return model.eval()


def detector() -> nn.Module:
    return trained(Detector)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The network in int8 for three engines, beside its weights and its calibration set."""
    folder = tmp_path_factory.mktemp("int8")
    np.savez(folder / "real.npz", x=pictures(48, 99))
    model = trained()
    torch.save(model.state_dict(), folder / "trained.pt")
    torch.save(detector().state_dict(), folder / "detector.pt")
    return ud.export(
        model, ("onnx", "openvino", "tflite"), precisions="int8", calibration=folder / "real.npz", inputs=(SHAPE,),
        output=folder / "b", cache=False, replay="full",
    )  # fmt: skip


def test_honest_artifacts_are_proven(bundle: Bundle) -> None:
    for record in bundle.manifest.artifacts:
        found = record.evidence.replay
        assert found is not None
        assert found.wrong == (), record.target
        assert found.proves, record.target
        assert ReasonKind.MODULE_FAULT not in {reason.kind for reason in record.evidence.reasons}


@pytest.fixture
def judged(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Foreign]:
    """What is said about a file held against a network."""
    monkeypatch.setattr(sys.modules[__name__], "__name__", "int8_cases")
    monkeypatch.setitem(sys.modules, "int8_cases", sys.modules[trained.__module__])
    folder = bundle.root.parent

    def call(path: Path, network: str = "trained") -> Foreign:
        asked = ExportOptions(
            folder / f"{network}.pt", factory=f"int8_cases:{network}", inputs=(SHAPE,), cache=False,
            calibration=folder / "real.npz",
        )  # fmt: skip
        return verify_against(asked, Question(path, precision="int8"), Progress(quiet=True))

    return call


def test_a_file_of_another_tool_passes(bundle: Bundle, judged: Callable[..., Foreign], tmp_path: Path) -> None:
    """Weights that another tool has rounded as it likes are no fault."""
    found = judged(plain(trained(), bundle, tmp_path)).evidence
    assert found.verdict is Verdict.PASS, found.reasons
    assert found.replay is not None
    assert found.replay.wrong == ()


def test_a_pool_of_another_kind_is_named(bundle: Bundle, judged: Callable[..., Foreign], tmp_path: Path) -> None:
    faulty = Mobile(nn.AvgPool2d(3, 1, 1))
    faulty.load_state_dict(trained().state_dict())
    found = judged(plain(faulty.eval(), bundle, tmp_path)).evidence
    assert found.verdict is Verdict.FAIL
    wrong = [reason.subject for reason in found.reasons if reason.kind is ReasonKind.MODULE_FAULT]
    assert wrong[0] == "pool"


def test_a_scale_that_is_five_percent_off_is_named(
    bundle: Bundle, judged: Callable[..., Foreign], tmp_path: Path
) -> None:
    """Only what reads the value behind is wrong: the file rounds by one scale and takes it for another."""
    model = onnx.load(bundle.root / "onnx" / "model.onnx")
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    readers = [
        node for node in model.graph.node if node.op_type == "DequantizeLinear" and node.input[0] not in constants
    ]
    scale = onnx.numpy_helper.to_array(constants[readers[1].input[1]])
    model.graph.initializer.append(onnx.numpy_helper.from_array(scale * np.float32(1.05), "another"))
    readers[1].input[1] = "another"
    onnx.save(model, tmp_path / "off.onnx")
    found = judged(tmp_path / "off.onnx").evidence
    assert found.verdict is Verdict.FAIL
    assert any("quantizer behind module" in reason.text for reason in found.reasons)


@pytest.mark.parametrize("scale", [1.0, 0.0])
def test_dead_scores_beside_boxes_in_pixels_are_named(
    bundle: Bundle, judged: Callable[..., Foreign], tmp_path: Path, scale: float
) -> None:
    """Of the whole output they are a thousandth, far below what int8 may be off."""
    faulty = Detector(scale)
    faulty.load_state_dict(detector().state_dict())
    found = judged(plain(faulty.eval(), bundle, tmp_path, "Conv"), "detector").evidence
    assert found.verdict is (Verdict.PASS if scale else Verdict.FAIL), found.reasons
    assert (ReasonKind.MODULE_FAULT in {reason.kind for reason in found.reasons}) is (not scale)


def plain(model: nn.Module, bundle: Bundle, folder: Path, *operators: str) -> Path:
    """int8 as ONNX Runtime's tool makes it when nobody says anything but the number of scales, or which operators."""
    from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self.rows = iter(np.load(bundle.root.parent / "real.npz")["x"])

        def get_next(self) -> dict[str, Array] | None:
            row = next(self.rows, None)
            return None if row is None else {"x": row[None]}

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(model, (torch.zeros(1, *SHAPE),), folder / "p.onnx", dynamo=False, input_names=["x"])
    quantize_static(
        folder / "p.onnx", folder / "q.onnx", Reader(), per_channel=True, activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8, op_types_to_quantize=operators or None,
    )  # fmt: skip
    return folder / "q.onnx"
