"""The bill of materials of ulsam-deploy itself (CycloneDX 1.6), from what pip says it would install.

    pip install --dry-run --ignore-installed --constraint constraints.txt --report report.json 'WHEEL[all]'
    python .ci/bom.py report.json bom.cdx.json

pip resolves and installs nothing; its report has the name, version, hash and requirements of each package. Addresses
are left out, because the index is the builder's own choice. The same report gives the same bytes.
"""

from __future__ import annotations

import json
import sys
import uuid
from pathlib import Path
from typing import Any

from cyclonedx.model import HashAlgorithm, HashType
from cyclonedx.model.bom import Bom, BomMetaData
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.output.json import JsonV1Dot6
from packageurl import PackageURL
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

OURS = "ulsam-deploy"


def main(report: str, output: str) -> None:
    """Read pip's ``report`` and write the document to ``output``."""
    found = json.loads(Path(report).read_text())
    Path(output).write_text(document(found))


def document(report: dict[str, Any]) -> str:
    """The bill of materials as JSON text."""
    items = {canonicalize_name(item["metadata"]["name"]): item for item in report["install"]}
    parts = {name: _component(name, item) for name, item in sorted(items.items())}
    own = parts[OURS]
    rest = [part for part in parts.values() if part is not own]
    bom = Bom(
        components=rest,
        metadata=BomMetaData(component=own),
        serial_number=uuid.uuid5(uuid.NAMESPACE_URL, " ".join(str(part.purl) for part in parts.values())),
    )
    bom.metadata.timestamp = None  # type: ignore[assignment]  # the same report gives the same bytes
    for name, item in items.items():
        bom.register_dependency(parts[name], [parts[one] for one in _needed(item, report["environment"], parts)])
    return JsonV1Dot6(bom).output_as_string(indent=2) + "\n"


def _component(name: str, item: dict[str, Any]) -> Component:
    version = item["metadata"]["version"]
    hashes = item["download_info"].get("archive_info", {}).get("hashes", {})
    purl = PackageURL("pypi", name=name, version=version)
    kind = ComponentType.APPLICATION if name == OURS else ComponentType.LIBRARY
    digest = [HashType(alg=HashAlgorithm.SHA_256, content=hashes["sha256"])] if "sha256" in hashes else []
    return Component(name=name, version=version, type=kind, purl=purl, bom_ref=str(purl), hashes=digest)


def _needed(item: dict[str, Any], environment: dict[str, str], known: dict[str, Component]) -> set[str]:
    """The packages in the report that ``item`` requires there, with the extras that were asked for."""
    own, extras, needed = canonicalize_name(item["metadata"]["name"]), {""}, set()
    waiting = list(item.get("requested_extras", ()))
    required = [Requirement(line) for line in item["metadata"].get("requires_dist", ())]
    while True:
        for one in required:
            if one.marker is None or any(one.marker.evaluate({**environment, "extra": extra}) for extra in extras):
                needed.add(canonicalize_name(one.name))
                if canonicalize_name(one.name) == own:
                    waiting += one.extras - extras  # an extra that names others of the same package
        if not waiting:
            return (needed & known.keys()) - {own}
        extras.add(waiting.pop())


if __name__ == "__main__":
    main(*sys.argv[1:])
