"""``ulsam-deploy lint``: a line for each block, before anything is compiled; nothing fails by a forecast."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from ulsam_deploy.cli import main


def test_every_block_has_a_line_and_json_the_figures(checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["lint", str(checkpoint)]) == 0
    said = capsys.readouterr().out
    for path, size in (("attention.3", "24x24"), ("features.13", "6x6")):
        assert any(line.startswith(path) and size in line for line in said.splitlines())
    assert "give some with --probes" in said
    assert main(["lint", str(checkpoint), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["schema"] == "ulsam-deploy.lint/1"
    assert [block["block"] for block in document["blocks"]][:2] == ["attention.3", "attention.6"]
    assert set(document["blocks"][0]["survives"]) == {"int8", "fp16", "bf16"}


@pytest.mark.long
def test_pictures_need_a_preprocessing(checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pictures = np.random.default_rng(0).integers(0, 256, (4, 96, 96, 1)).astype(np.uint8)
    np.savez(tmp_path / "p.npz", x=pictures)
    assert main(["lint", str(checkpoint), "--probes", str(tmp_path / "p.npz")]) == 2
    assert "--preprocessing" in capsys.readouterr().err
    words = ["lint", str(checkpoint), "--probes", str(tmp_path / "p.npz"), "--preprocessing", "unit-grey"]
    assert main(words) == 0
    assert "give some with --probes" not in capsys.readouterr().out
