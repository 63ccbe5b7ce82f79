"""What a real export leaves for people: maps read out of the running engine, and a page that shows them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ulsam_deploy.device import maps
from ulsam_deploy.device.bundle import read_bundle
from ulsam_deploy.device.invocation import extra
from ulsam_deploy.device.maps import Maps
from ulsam_deploy.exporting import attachments
from ulsam_deploy.report import page

from ..report.reading import Page


def test_the_engine_s_maps_are_pytorch_s(folder: Path) -> None:
    found = Maps.load(folder / "net.bundle" / "maps.npz")
    assert found.shapes == {"attention.6": (4, 8, 8)}
    reference = found.reference["attention.6"]
    np.testing.assert_allclose(reference.sum((2, 3)), 1, rtol=1e-6)
    np.testing.assert_allclose(found.engines["onnx fp32"]["attention.6"], reference, atol=1e-5)
    assert list(found.missing) == ["trt fp32"]
    assert "not executed here" in found.missing["trt fp32"]


def test_the_graph_before_is_the_network_s_and_the_one_after_is_smaller(folder: Path) -> None:
    manifest = read_bundle(folder / "net.bundle").manifest
    before = maps.step_counts(Maps.load(folder / "net.bundle" / "maps.npz").naive)
    assert before["softmax"] == before["max_pool2d"] == 4, "one a subspace"
    assert not [name for name in before if "batch_norm_" in name], "a name that only torch uses"
    for record in manifest.artifacts:
        names = [step.name for step in record.facts.block]
        assert names.count("softmax") == names.count("max_pool2d") == 1
        assert len(names) < sum(before.values()) / 2
        assert not {"batch_norm", "split", "expand", "view"} & set(names)


def test_the_page_shows_them_and_fetches_nothing(folder: Path) -> None:
    text = (folder / "net.bundle" / "report.html").read_text()
    assert len(text.encode()) < page.LIMIT
    read = Page(text)
    assert "onnx fp32 computes what the PyTorch model computes, attention and all" in read.text
    assert "PyTorch, as written" in read.text
    assert "No maps of trt fp32" in read.text
    assert len(read.all("canvas")) > 4
    assert [name for name in (*read.attribute("src"), *read.attribute("href")) if name[:1] != "#"] == ["data:,"]


def test_without_its_libraries_a_bundle_has_no_page_and_a_note_says_so(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = read_bundle(folder / "net.bundle")
    monkeypatch.setattr(page, "NEEDS", ("no_such_library",))
    said: list[str] = []
    for name in ("maps.npz", "golden.npz"):
        (tmp_path / name).write_bytes((bundle.root / name).read_bytes())
    for record in bundle.manifest.artifacts:
        for file in record.files:
            (tmp_path / file.path).parent.mkdir(exist_ok=True)
            (tmp_path / file.path).write_bytes((bundle.root / file.path).read_bytes())
    made = attachments.attach(replace(bundle.manifest, extras=()), tmp_path, cached=False, say=said.append)
    assert [record.path for record in made.extras] == ["maps.npz", "bom.cdx.json"]
    assert said == [f"  note: no report.html was written, it needs no_such_library: {extra('report')}"]
