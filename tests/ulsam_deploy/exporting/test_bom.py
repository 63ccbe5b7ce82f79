"""The bill of materials: valid by the published schema, complete, and the same bytes each time."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import cyclonedx.schema
import jsonschema
import pytest
from packageurl import PackageURL
from referencing import Registry, Resource

from ulsam_deploy.device.bundle import Bundle, RunFacts
from ulsam_deploy.device.findings import ArtifactFacts, CalibrationSet
from ulsam_deploy.exporting.bom import BOM, bill_of_materials, write_bom

from ..device.bundle.conftest import make_bundle

SCHEMAS = Path(cyclonedx.schema.__file__).parent / "_res"


def schema(name: str) -> Any:
    return json.loads((SCHEMAS / f"{name}.SNAPSHOT.schema.json").read_text())


def by_schema() -> jsonschema.Draft7Validator:
    """What judges a document by the published schema of CycloneDX 1.6."""
    others = [(schema(name)["$id"], Resource.from_contents(schema(name))) for name in ("spdx", "jsf-0.82")]
    return jsonschema.Draft7Validator(schema("bom-1.6"), registry=Registry().with_resources(others))


@pytest.fixture(scope="module")
def validator() -> jsonschema.Draft7Validator:
    return by_schema()


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return make_bundle(tmp_path / "model.bundle")


def test_it_is_valid_by_the_published_schema(bundle: Bundle, validator: jsonschema.Draft7Validator) -> None:
    document = json.loads(json.dumps(bill_of_materials(bundle.manifest)))
    assert [error.message for error in validator.iter_errors(document)] == []
    document["metadata"]["component"]["modelCard"]["modelParameters"]["network"] = "x"
    assert list(validator.iter_errors(document)), "the schema would not see a mistake"


def test_it_names_model_data_artifacts_and_tools_with_their_hashes(bundle: Bundle) -> None:
    manifest = bundle.manifest
    calibrated = replace(manifest.artifacts[1], facts=ArtifactFacts(calibration=CalibrationSet("ab" * 32, 9)))
    manifest = replace(manifest, artifacts=(manifest.artifacts[0], calibrated))
    document = bill_of_materials(manifest)
    named = {one["bom-ref"]: one for one in document["components"]}
    assert set(named) == {
        "artifact:onnx:fp32", "artifact:openvino:fp32", "data:golden", f"data:calibration:{'ab' * 32}",
        "pkg:pypi/onnx@1.0", "pkg:pypi/openvino@1.0",
    }  # fmt: skip
    files = {f["name"]: f["hashes"][0]["content"] for one in named.values() for f in one.get("components", ())}
    assert files == {file.path: file.sha256 for record in manifest.artifacts for file in record.files}
    model = document["metadata"]["component"]
    assert model["hashes"] == [{"alg": "SHA-256", "content": manifest.model.sha256}]
    assert manifest.golden
    assert named["data:golden"]["hashes"][0]["content"] == manifest.golden.sha256
    references = {one["ref"] for one in document["dependencies"]}
    assert references | {ref for one in document["dependencies"] for ref in one["dependsOn"]} <= {*named, "model"}
    assert [one["ref"] for one in model["modelCard"]["modelParameters"]["datasets"]] == [
        "data:golden", f"data:calibration:{'ab' * 32}"
    ]  # fmt: skip


def test_a_local_version_makes_a_sound_package_address(bundle: Bundle) -> None:
    record = replace(bundle.manifest.artifacts[0], toolchain={"ai_edge_litert": "2.13.0+cpu", "unknown": ""})
    document = bill_of_materials(replace(bundle.manifest, artifacts=(record,)))
    addresses = [PackageURL.from_string(one["purl"]) for one in document["components"] if "purl" in one]
    assert [(one.name, one.version) for one in addresses] == [("ai-edge-litert", "2.13.0+cpu"), ("unknown", None)]


def test_the_same_manifest_gives_the_same_bytes_and_another_one_another_number(bundle: Bundle, tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        assert write_bom(bundle.manifest, tmp_path / name) == BOM
    assert (tmp_path / "one" / BOM).read_bytes() == (tmp_path / "two" / BOM).read_bytes()
    timed = replace(bundle.manifest, run=RunFacts(python="9.9"))
    assert bill_of_materials(timed) == bill_of_materials(bundle.manifest), "nothing measured is in it"
    other = bill_of_materials(replace(bundle.manifest, golden=None))
    assert other["serialNumber"] != bill_of_materials(bundle.manifest)["serialNumber"]
