"""``new --list`` and ``inspect``: the paper's figures beside the built network's, and counts that equal them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from ulsam_deploy.cli import main
from ulsam_deploy.models.paper import named_configurations

ROWS = {row.name: row for row in named_configurations()}


def document(capsys: pytest.CaptureFixture[str], *words: object) -> dict[str, Any]:
    assert main([*map(str, words), "--json"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def test_list_puts_the_paper_s_figures_beside_the_built_ones(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["new", "--list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    heading = next(line for line in lines if line.startswith("configuration"))
    places = {title: heading.index(title) for title in ("paper params", "built params", "paper MACs", "built MACs")}
    shown = {line.split()[0]: line for line in lines if line.split() and line.split()[0] in ROWS}
    assert set(shown) == set(ROWS)
    for name, row in ROWS.items():
        cells = {title: shown[name][place:].split("  ")[0] for title, place in places.items()}
        assert cells["paper params"] == f"{row.printed_params_m} M"
        assert cells["built params"] == f"{row.params:,}"
        assert cells["paper MACs"].startswith(f"{row.printed_macs_m} M")
        assert ("224.16" in cells["paper MACs"]) is (name == "mobilenet_v2_ulsam_sub_12_13_15_16")
        assert cells["built MACs"] == f"{row.macs / 1e6:.3f} M"


@pytest.mark.parametrize(
    ("name", "top"),
    [
        ("mobilenet_v1_w050", "63.22 %"),
        ("mobilenet_v1_ulsam_ins_12", "70.86 %"),
        ("mobilenet_v2_ulsam_sub_13_16", "71.52 %"),
        ("mobilenet_v2_ulsam_sub_16", "64.44 % (birds)"),
    ],
)
def test_list_as_json_has_configurations_and_figures(name: str, top: str, capsys: pytest.CaptureFixture[str]) -> None:
    found = document(capsys, "new", "--list")
    assert set(found["figures"]) == set(found["named"]) == set(ROWS)
    assert found["figures"][name]["paper top-1"] == top
    assert found["named"][name]["substitute"] == ROWS[name].config["substitute"]


@pytest.mark.parametrize(
    ("name", "backbone", "map_"),
    [
        ("mobilenet_v1_w050_ulsam_sub_11", "mobilenet_v1_w050", (256, 14)),
        ("mobilenet_v2_ulsam_ins_16", "mobilenet_v2_w100", (160, 7)),
    ],
)
def test_inspect_counts_a_paper_row_exactly(
    name: str, backbone: str, map_: tuple[int, int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["new", name, "-o", str(tmp_path / "row.pt")]) == 0
    capsys.readouterr()
    found = document(capsys, "inspect", tmp_path / "row.pt")
    assert found["total"] == {"parameters": ROWS[name].params, "macs": ROWS[name].macs}
    assert found["backbone"] == {"parameters": ROWS[backbone].params, "macs": ROWS[backbone].macs}
    channels, side = map_
    (block,) = found["blocks"]
    assert (block["channels"], block["height"], block["width"], block["subspaces"]) == (channels, side, side, 4)
    assert found["costs"] == [{"parameters": 5 * channels + 3 * 4, "macs": 2 * channels * side**2}]


OWN = """
import torch
from torch import nn
from torch.nn import functional as F

class Gate(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.a, self.b = nn.Conv2d(c, c, 1, groups=c), nn.BatchNorm2d(c)
        self.c, self.d = nn.Conv2d(c, 1, 1), nn.BatchNorm2d(1)
    def forward(self, x):
        s = F.relu(self.d(self.c(F.max_pool2d(F.relu(self.b(self.a(x))), 3, 1, 1))))
        return x + x * s.flatten(2).softmax(-1).view(s.shape)

class Two(nn.Module):
    def __init__(self):
        super().__init__()
        self.left, self.right = nn.Conv2d(3, 8, 3, 2, 1), nn.Conv2d(1, 8, 3, 1, 1)
        self.gate = Gate(8)
    def forward(self, colour, depth):
        both = self.left(colour) + self.right(depth)
        return self.gate(both), self.gate(both[:, :, ::2]).mean((2, 3))

def build():
    torch.manual_seed(0)
    return Two()
"""


def test_inspect_counts_a_stranger_with_two_inputs_and_a_block_used_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "two_inputs_of_test_figures.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, Any] = {}
    exec(OWN, namespace)
    torch.save(namespace["build"]().state_dict(), tmp_path / "two.pt")
    shapes = ["--input", "3x16x24", "--input", "1x8x12"]
    found = document(capsys, "inspect", "two.pt", "--model", "two_inputs_of_test_figures:build", *shapes)
    gate, convolutions = 5 * 8 + 3, 3 * 8 * 9 + 8 + 8 * 9 + 8
    assert found["inputs"] == [[3, 16, 24], [1, 8, 12]]
    assert found["total"]["parameters"] == gate + convolutions
    assert found["total"]["macs"] == (3 * 8 * 9 + 8 * 9) * 8 * 12 + (8 + 8) * (8 + 4) * 12
    assert found["backbone"] is None
    first = {"parameters": gate, "macs": (8 + 8) * 8 * 12}
    assert found["costs"] == [first, {"parameters": 0, "macs": (8 + 8) * 4 * 12}], "its parameters count once"
    assert main(["inspect", "two.pt", "--model", "two_inputs_of_test_figures:build", *shapes]) == 0
    text = capsys.readouterr().out
    assert "at 3x16x24, 1x8x12" in text
    assert "8x12" in text.split("ULSAM block")[1]
