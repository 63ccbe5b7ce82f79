"""What ``--json`` prints conforms to the schema that is published, and the schema refuses what it does not say."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from ulsam_deploy.cli.documents import DOCUMENTS, json_schema
from ulsam_deploy.device import codec
from ulsam_deploy.device.commands.answer import Document

from .conftest import Run

ROOT = Path(__file__).parents[3]
PUBLISHED = ROOT / "docs" / "commands.schema.json"
VALIDATOR = jsonschema.Draft202012Validator(json_schema())


def test_the_published_schema_is_the_one_that_the_types_say() -> None:
    jsonschema.Draft202012Validator.check_schema(json_schema())
    assert PUBLISHED.read_text() == codec.dumps(json_schema()), (
        f"write it again: python -m ulsam_deploy.cli.documents > docs/{PUBLISHED.name}"
    )


def test_every_document_is_in_the_schema_and_one_place_prints_them() -> None:
    sources = {path: path.read_text() for path in (ROOT / "ulsam_deploy").rglob("*.py")}
    declared = re.compile(r'schema: str = schema_field\("([a-z-]+)", (\d+)\)')
    found = sorted(
        f"ulsam-deploy.{name}/{version}" for text in sources.values() for name, version in declared.findall(text)
    )
    assert found == sorted(schema_of(kind) for kind in DOCUMENTS), "add it to ulsam_deploy/cli/documents.py"
    commands = [path for path in sources if path.parent.name in ("cli", "commands")]
    printing = {path.name for path in commands if re.search(r"\bprint\(|sys\.stdout\.write", sources[path])}
    assert printing == {"console.py", "words.py", "documents.py"}, "a command returns its answer, and prints nothing"


def schema_of(kind: type[Document]) -> str:
    """The id that every document of a class has."""
    (field,) = [field for field in dataclasses.fields(kind) if field.name == "schema"]
    return str(field.default)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("plan", "export {net} --target all --dry-run"),
        ("verify", "verify {bundle} --target onnx"),
        ("verify-against", "verify --against {net} {bundle}/onnx/model.onnx"),
        ("inspect", "inspect {bundle}"),
        ("inspect", "inspect {net}"),
        ("doctor", "doctor"),
        ("report", "report {bundle} -o {out}/r.html"),
        ("new", "new mobilenet_v1 --width 0.25 --classes 2 --input 3x32x32 -o {out}/n.pt"),
        ("new", "new --list"),
        ("pack", "pack {bundle} -o {out}/b.zip"),
        ("pack", "pack --runner -o {out}/r.pyz"),
        ("cache", "cache"),
        ("export", "export {net} --target onnx -o {out}/again.bundle"),
    ],
)
def test_what_is_printed_conforms(folder: Path, run: Run, tmp_path: Path, name: str, words: str) -> None:
    places = {"net": folder / "net.pt", "bundle": folder / "net.bundle", "out": tmp_path}
    document = json.loads(run(*(word.format(**places) for word in words.split()), "--json"))
    assert document["schema"].rpartition("/")[0] == f"ulsam-deploy.{name}"
    VALIDATOR.validate(document)
    for spoiled in ({**document, "more": 1}, {**document, "schema": "ulsam-deploy.other/1"}, without_one(document)):
        assert not VALIDATOR.is_valid(spoiled)


def without_one(document: dict[str, Any]) -> dict[str, Any]:
    first = min(name for name in document if name != "schema")
    return {name: value for name, value in document.items() if name != first}
