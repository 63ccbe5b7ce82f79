"""The commands on good input: what they print and leave, and that ``--json`` is one document and nothing else."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
import time
import zipfile
from pathlib import Path
from typing import Any

import pytest

from ulsam_deploy.cli import main
from ulsam_deploy.exporting.bom import BOM

from ...traces import traces
from ..exporting.test_bom import by_schema
from .conftest import Run


def document(text: str, schema: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(text)
    assert found["schema"].rpartition("/")[0] == f"ulsam-deploy.{schema}"
    return found


def test_the_bundle_lies_beside_the_model(folder: Path) -> None:
    assert sorted(path.name for path in folder.iterdir()) == ["net.bundle", "net.pt"]
    assert sorted(path.name for path in (folder / "net.bundle").iterdir()) == [
        *("bom.cdx.json", "golden.npz", "manifest.json", "maps.npz", "onnx", "report.html", "trt")
    ]


def test_nothing_of_this_machine_is_in_a_bundle(folder: Path) -> None:
    assert (folder / "net.bundle" / "report.html").is_file()
    assert traces(folder / "net.bundle", str(folder)) == []


def test_a_bundle_lists_what_it_is_made_of(folder: Path) -> None:
    root = folder / "net.bundle"
    document, manifest = json.loads((root / BOM).read_text()), json.loads((root / "manifest.json").read_text())
    assert [error.message for error in by_schema().iter_errors(document)] == []
    assert BOM in {extra["path"] for extra in manifest["extras"]}
    model = document["metadata"]["component"]
    assert model["hashes"][0]["content"] == hashlib.sha256((folder / "net.pt").read_bytes()).hexdigest()
    files = {
        file["name"]: file["hashes"][0]["content"]
        for one in document["components"]
        for file in one.get("components", ())
    }
    assert {name.split("/")[0] for name in files} == {"onnx", "trt"}
    for name, sha256 in files.items():
        assert hashlib.sha256((root / name).read_bytes()).hexdigest() == sha256
    golden = next(one for one in document["components"] if one["bom-ref"] == "data:golden")
    assert golden["hashes"][0]["content"] == hashlib.sha256((root / "golden.npz").read_bytes()).hexdigest()
    assert {"torch", "onnx"} <= {one["name"] for one in document["components"] if "purl" in one}


def test_export_json(folder: Path, run: Run, tmp_path: Path) -> None:
    out = run("export", folder / "net.pt", "--target", "onnx", "--json", "-o", tmp_path / "j.bundle")
    found = document(out, "export")
    assert found["exit_code"] == 0
    (artifact,) = found["manifest"]["artifacts"]
    assert artifact["evidence"]["verdict"] == "pass"
    assert artifact["evidence"]["level"] == "executed"


def test_verify_prints_a_row_an_artifact(folder: Path, run: Run) -> None:
    out = run("verify", folder / "net.bundle")
    assert re.search(r"^onnx .* executed .* pass$", out, re.MULTILINE)
    assert re.search(r"^trt .* unverified$", out, re.MULTILINE)


def test_verify_of_a_target_that_cannot_run_here_is_exit_4(folder: Path, run: Run) -> None:
    out = run("verify", folder / "net.bundle", "--target", "trt", "--json", code=4)
    (artifact,) = document(out, "verify")["artifacts"]
    assert "driver" in artifact["error"]


def test_verify_reads_a_packed_bundle(folder: Path, run: Run, tmp_path: Path) -> None:
    packed = tmp_path / "net.zip"
    run("pack", folder / "net.bundle", "-o", packed)
    assert "manifest.json" in zipfile.ZipFile(packed).namelist()
    again = tmp_path / "again.zip"
    run("pack", folder / "net.bundle", "-o", again)
    assert again.read_bytes() == packed.read_bytes()
    assert "pass" in run("verify", packed, "--target", "onnx")


def test_inspect_of_a_bundle(folder: Path, run: Run) -> None:
    out = run("inspect", folder / "net.bundle")
    assert "attention.6" in out
    assert "8x8" in out


def test_inspect_of_a_checkpoint_counts_blocks_and_backbone(folder: Path, run: Run) -> None:
    found = document(run("inspect", folder / "net.pt", "--json"), "inspect")
    (block,) = found["blocks"]
    assert (block["path"], block["channels"], block["subspaces"], block["height"]) == ("attention.6", 16, 4, 8)
    (cost,) = found["costs"]
    # 5m + 3g parameters; a 1x1 depthwise and a 1x1 score convolution: 2*m*h*w MACs (the paper's convention)
    assert cost == {"parameters": 5 * 16 + 3 * 4, "macs": 2 * 16 * 8 * 8}
    assert found["total"]["macs"] - found["backbone"]["macs"] == cost["macs"]
    assert found["total"]["parameters"] - found["backbone"]["parameters"] == cost["parameters"]


def test_doctor_says_what_to_do_for_what_is_missing(run: Run) -> None:
    found = document(run("doctor", "--json"), "doctor")
    for backend in found["backends"]:
        assert backend["usable"] or backend["todo"], f"{backend['name']} is missing and nobody says what to do"


def test_new_is_the_same_for_the_same_seed(run: Run, tmp_path: Path) -> None:
    words = [
        "new",
        "mobilenet_v1",
        "--substitute",
        "8",
        "--width",
        "0.25",
        "--classes",
        "2",
        "--input",
        "3x32x32",
        "--seed",
        "3",
        "-o",
    ]
    for name in ("a.pt", "b.pt"):
        run(*words, tmp_path / name)
    assert (tmp_path / "a.pt").read_bytes() == (tmp_path / "b.pt").read_bytes()


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("new mobilenet_v9", "mobilenet_v2"),
        ("new mobilenet_v2 --substitute 1", "12"),
        ("new mobilenet_v2 --insert 2 --subspaces 5", "subspaces"),
        ("new", "--list"),
    ],
)
def test_new_teaches_what_is_possible(words: str, expected: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words.split()) == 2
    assert expected in capsys.readouterr().err


def test_help_is_quick_and_needs_no_engine() -> None:
    """A generous bound for a shared machine; the benchmark has the real figure."""
    started = time.perf_counter()
    done = subprocess.run([sys.executable, "-m", "ulsam_deploy", "export", "--help"], capture_output=True, text=True)
    assert done.returncode == 0
    assert "--require LEVEL" in done.stdout
    assert time.perf_counter() - started < 5
