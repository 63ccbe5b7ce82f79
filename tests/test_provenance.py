"""Where a build comes from: its bill of materials, who attests to it, and what looks up known vulnerabilities."""

from __future__ import annotations

import importlib.util
import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

from .ulsam_deploy.exporting.test_bom import by_schema

ROOT = Path(__file__).parents[1]
JOBS = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())["jobs"]
SHA = "ab" * 32


def package(name: str, version: str, *requires: str, extras: tuple[str, ...] = ()) -> dict[str, Any]:
    """What pip's report says of one package."""
    return {
        "download_info": {"url": f"https://index/{name}.whl", "archive_info": {"hashes": {"sha256": SHA}}},
        "metadata": {"name": name, "version": version, "requires_dist": list(requires)},
        "requested_extras": list(extras),
    }


REPORT = {
    "environment": {"python_version": "3.11", "sys_platform": "linux"},
    "install": [
        package(
            "ulsam_deploy",
            "0.1.0",
            "numpy>=1.26",
            "onnx>=1.21; extra == 'onnx'",
            "ulsam-deploy[onnx]; extra == 'all'",
            "rich; extra == 'report'",
            "tomli>=2; python_version < '3.11'",
            extras=("all",),
        ),
        package("numpy", "2.0.0"),
        package("onnx", "1.22.0", "Proto_Buf", "numpy"),
        package("proto-buf", "6.0.0"),
        package("rich", "15.0.0"),
    ],
}


@pytest.fixture(scope="module")
def made() -> Any:
    spec = importlib.util.spec_from_file_location("tool_bom", ROOT / ".ci" / "bom.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_tool_has_a_bill_of_materials(made: Any) -> None:
    text = made.document(REPORT)
    assert text == made.document(json.loads(json.dumps(REPORT)))
    document = json.loads(text)
    by_schema().validate(document)
    assert document["metadata"]["component"]["name"] == "ulsam-deploy"
    assert {one["name"] for one in document["components"]} == {"numpy", "onnx", "proto-buf", "rich"}
    assert all(one["hashes"] == [{"alg": "SHA-256", "content": SHA}] for one in document["components"])
    needs = {one["ref"]: one.get("dependsOn", []) for one in document["dependencies"]}
    assert needs["pkg:pypi/ulsam-deploy@0.1.0"] == ["pkg:pypi/numpy@2.0.0", "pkg:pypi/onnx@1.22.0"]
    assert needs["pkg:pypi/onnx@1.22.0"] == ["pkg:pypi/numpy@2.0.0", "pkg:pypi/proto-buf@6.0.0"]
    assert "https://index" not in text


def test_the_workflow_attests_to_everything_that_it_built() -> None:
    build = JOBS["build"]
    (attests,) = (step for step in build["steps"] if "actions/attest" in step.get("uses", ""))
    (uploads,) = (step for step in build["steps"] if "upload-artifact" in step.get("uses", ""))
    assert attests["with"]["subject-path"] == "dist/*"
    assert uploads["with"]["path"] == "dist/"
    scripts = [number for number, step in enumerate(build["steps"]) if "dist/" in step.get("run", "")]
    assert max(scripts) < build["steps"].index(attests), "what is made later is not attested to"
    assert build["permissions"] == {"contents": "read", "id-token": "write", "attestations": "write"}
    others = [job for name, job in JOBS.items() if name != "build"]
    assert not any("permissions" in job for job in others)


def test_every_pinned_version_is_looked_up() -> None:
    (script,) = (step["run"] for step in JOBS["advisories"]["steps"] if "pip-audit --" in step.get("run", ""))
    assert "--strict" in script
    assert set(re.findall(r"constraints\S*\.txt", script)) == {path.name for path in ROOT.glob("constraints*.txt")}


def test_reports_go_to_the_repository_that_the_package_names() -> None:
    source = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["urls"]["Source"]
    assert f"{source}/security/advisories/new" in (ROOT / "SECURITY.md").read_text()
