"""The bill of materials of a bundle: model, data, artifacts and tools as a CycloneDX 1.6 ML-BOM, ``bom.cdx.json``.

Plain JSON, because the CycloneDX library for Python does not support model cards; a test validates it against the
published schema. It contains no times and no measurements, so that the same export gives the same bytes.
"""

from __future__ import annotations

import hashlib
import json
import re
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from ulsam_deploy._version import __version__
from ulsam_deploy.device import codec
from ulsam_deploy.device.bundle import ArtifactRecord, FileRecord, Manifest
from ulsam_deploy.device.types import TensorSpec

__all__ = ["BOM", "bill_of_materials", "write_bom"]

BOM = "bom.cdx.json"
_SCHEMA = "http://cyclonedx.org/schema/bom-1.6.schema.json"
_TOOL = {"type": "application", "name": "ulsam-deploy", "version": __version__}
_MODEL, _GOLDEN = "model", "data:golden"
_NAMESPACE = uuid.UUID("8f0f7a55-6a07-5c3b-9a49-1c5f2f5f0a10")

Component = dict[str, Any]


def write_bom(manifest: Manifest, folder: Path) -> str:
    """Write the bill of materials of the bundle in ``folder``; returns the file's name."""
    (folder / BOM).write_text(codec.dumps(bill_of_materials(manifest)))
    return BOM


def bill_of_materials(manifest: Manifest) -> dict[str, Any]:
    """The document as JSON-serializable data. Its serial number is derived from its content."""
    data, tools = list(_data(manifest)), _tools(manifest)
    artifacts = [_artifact(manifest, record) for record in manifest.artifacts]
    document = {
        "$schema": _SCHEMA,
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"tools": {"components": [_TOOL]}, "component": _model(manifest, data)},
        "components": [*artifacts, *data, *tools.values()],
        "dependencies": [
            {"ref": _MODEL, "dependsOn": [one["bom-ref"] for one in artifacts]},
            *(
                {"ref": _artifact_ref(record), "dependsOn": [tools[tool]["bom-ref"] for tool in _used(record)]}
                for record in manifest.artifacts
            ),
        ],
    }
    content = hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()
    return {**document, "serialNumber": f"urn:uuid:{uuid.uuid5(_NAMESPACE, content)}"}


def _model(manifest: Manifest, data: list[Component]) -> Component:
    card = manifest.model
    parameters = {
        "architectureFamily": "convolutional neural network with ULSAM attention",
        "modelArchitecture": card.network,
        "inputs": [{"format": _words(spec)} for spec in card.inputs],
        "outputs": [{"format": _words(spec)} for spec in card.outputs],
        "datasets": [{"ref": one["bom-ref"]} for one in data],
    }
    blocks = [f"{b.path}: {b.channels} channels in {b.subspaces} subspaces, {b.height}x{b.width}" for b in card.blocks]
    facts = {"parameters": [str(card.parameters)], "attention": blocks}
    return {
        "type": "machine-learning-model",
        "bom-ref": _MODEL,
        "name": card.name,
        "description": "the checkpoint that every artifact was made from and checked against",
        "hashes": _hashes(card.sha256),
        "modelCard": {"modelParameters": parameters},
        "properties": _properties(facts),
    }


def _artifact(manifest: Manifest, record: ArtifactRecord) -> Component:
    evidence = record.evidence
    facts = {
        "target": [record.target],
        "precision": [record.precision],
        "effective-precision": [record.effective_precision],
        "evidence": [evidence.level.label],
        "verdict": [evidence.verdict.value],
    }
    return {
        "type": "machine-learning-model",
        "bom-ref": _artifact_ref(record),
        "name": f"{manifest.model.name} for {record.target} in {record.precision}",
        "components": [_file(file) for file in record.files],
        "pedigree": {"ancestors": [{"type": "machine-learning-model", "name": manifest.model.name,
                                    "hashes": _hashes(manifest.model.sha256)}]},
        "properties": _properties(facts),
    }  # fmt: skip


def _data(manifest: Manifest) -> Iterator[Component]:
    """The data sets used: for verification, and for int8 calibration."""
    if manifest.golden is not None:
        yield {
            "type": "data",
            "bom-ref": _GOLDEN,
            "name": manifest.golden.path,
            "hashes": _hashes(manifest.golden.sha256),
            "data": [{"type": "dataset", "description": "probe inputs and float64 reference outputs: verification"}],
        }
    digests = {_calibration(record) for record in manifest.artifacts} - {""}
    for sha256 in sorted(digests):
        yield {
            "type": "data",
            "bom-ref": f"data:calibration:{sha256}",
            "name": "calibration set",
            "hashes": _hashes(sha256),
            "data": [{"type": "dataset", "description": "inputs that ranges were measured on: calibration"}],
        }


def _calibration(record: ArtifactRecord) -> str:
    return record.facts.calibration.sha256 if record.facts.calibration else ""


def _tools(manifest: Manifest) -> dict[tuple[str, str], Component]:
    """Every tool used, by name and version."""
    used = sorted({tool for record in manifest.artifacts for tool in _used(record)})
    return {(name, version): _tool(name, version) for name, version in used}


def _used(record: ArtifactRecord) -> list[tuple[str, str]]:
    return sorted(record.toolchain.items())


def _tool(name: str, version: str) -> Component:
    package = re.sub(r"[-_.]+", "-", name).lower()
    where = f"pkg:pypi/{quote(package)}" + (f"@{quote(version)}" if version else "")
    return {"type": "library", "bom-ref": where, "name": name, "version": version, "purl": where}


def _artifact_ref(record: ArtifactRecord) -> str:
    return f"artifact:{record.target}:{record.precision}"


def _file(file: FileRecord) -> Component:
    return {"type": "file", "bom-ref": f"file:{file.path}", "name": file.path, "hashes": _hashes(file.sha256)}


def _hashes(sha256: str) -> list[dict[str, str]]:
    return [{"alg": "SHA-256", "content": sha256}]


def _properties(facts: Mapping[str, list[str]]) -> list[dict[str, str]]:
    return [{"name": f"ulsam-deploy:{name}", "value": value} for name, values in facts.items() for value in values]


def _words(spec: TensorSpec) -> str:
    shape = ",".join("N" if size is None else str(size) for size in spec.shape)
    return f"{spec.dtype}[{shape}]"
