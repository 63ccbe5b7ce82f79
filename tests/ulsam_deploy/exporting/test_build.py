"""In float32 too, a look inside an artifact decides about a block that its outputs cannot tell of."""

from __future__ import annotations

from pathlib import Path

import pytest

from ulsam_deploy.device.findings import Verdict
from ulsam_deploy.device.progress import Progress
from ulsam_deploy.device.verify import verify_bundle
from ulsam_deploy.exporting import pipeline
from ulsam_deploy.exporting.options import ExportOptions

#: What follows the attention counts for so little that float32 cannot show the difference in the outputs.
NETWORK = """
from torch import nn
from ulsam_deploy.models.ulsam import ULSAM

class Faint(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem, self.attention = nn.Conv2d(3, 8, 3, 2, 1), ULSAM(8, 4)
        self.head, self.tail = nn.Linear(8, 5), nn.Linear(8, 5)

    def forward(self, image):
        x = self.stem(image).relu()
        return self.head(x.mean((2, 3))) + 1e-8 * self.tail(self.attention(x).mean((2, 3)))
"""


def test_what_outputs_cannot_show_is_read_at_the_block(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    (tmp_path / "faint_network.py").write_text(NETWORK)
    monkeypatch.syspath_prepend(str(tmp_path))
    from faint_network import Faint

    torch.manual_seed(0)
    torch.save(Faint().state_dict(), tmp_path / "faint.pt")
    options = ExportOptions(
        tmp_path / "faint.pt", targets=("onnx",), factory="faint_network:Faint", inputs=((3, 24, 32),),
        output=tmp_path / "faint.bundle",
    )  # fmt: skip
    result = pipeline.export(options, Progress(quiet=True))
    assert result.bundle
    for evidence in (result.bundle.manifest.artifacts[0].evidence, verify_bundle(result.bundle)[0].evidence):
        assert evidence
        assert evidence.verdict is Verdict.PASS, evidence.reasons
        (block,) = evidence.parity.blocks
        assert (block.state, block.outputs.state) == ("kept", "inconclusive")
        assert block.retention == pytest.approx(1, abs=0.01)
