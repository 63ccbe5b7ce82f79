"""A small honest bundle, for every test of this folder to read or to spoil."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from ulsam_deploy.bundle import Bundle, BundleWriter, Evidence, Manifest, ModelCard
from ulsam_deploy.contracts import Artifact, Block, Refusal, TensorSpec, Tier, Verdict

INPUT = TensorSpec("image", (None, 3, 8, 8), layout="NHWC")
OUTPUT = TensorSpec("logits", (None, 10))


def make_bundle(output: Path, payload: bytes = b"weights") -> Bundle:
    with BundleWriter(output) as writer:
        records = []
        for target, names in (("onnx", ("model.onnx",)), ("openvino", ("model.xml", "model.bin"))):
            (writer.folder / target).mkdir()
            for name in names:
                (writer.folder / target / name).write_bytes(name.encode() + payload)
            made = Artifact(target, "fp32", names, (INPUT,), (OUTPUT,), Tier.PARSED, {target: "1.0"}, {"nodes": 3})
            evidence = Evidence(Tier.EXECUTED, Verdict.PASS, ("all held",), {"worst": 0.5}, None, {"threads": 1})
            records.append(writer.artifact(made, target, evidence))
        (writer.folder / "golden.npz").write_bytes(b"golden" + payload)
        (writer.folder / "report.html").write_bytes(b"<html>" + payload)
        card = ModelCard(
            name="tiny",
            sha256="0" * 64,
            network="mobilenet_v2",
            config={"width": 1.0, "positions": [1, 2]},
            inputs=(INPUT,),
            outputs=(OUTPUT,),
            blocks=(Block("features.1", 8, 4, 7, 7),),
            refusals=(Refusal("features.2", "pools another tensor"),),
            parameters=123,
        )
        golden, report = writer.record("golden.npz"), writer.record("report.html")
        return writer.commit(Manifest(card, tuple(records), golden, (report,), {"seconds": 1.5}))


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return make_bundle(tmp_path / "model.bundle")


@pytest.fixture
def write_bundle() -> Callable[..., Bundle]:
    return make_bundle
