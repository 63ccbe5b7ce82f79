"""SARIF 2.1.0: every check that did not pass, for GitHub's and other services' code scanning. Standard library only.

A finding has no line of code: its place is the file that the run was about.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

from ulsam_deploy._version import __version__
from ulsam_deploy.device.bundle.kinds import GENERATOR, SARIF_SCHEMA
from ulsam_deploy.device.checks import Check
from ulsam_deploy.device.findings import Verdict
from ulsam_deploy.device.printing import shown, shown_lines

#: The only one that GitHub reads, to know a finding again in the next upload.
_FINGERPRINT = "primaryLocationLineHash"
_LEVELS = {Verdict.FAIL: "error", Verdict.INCONCLUSIVE: "warning", Verdict.UNVERIFIED: "note"}


def sarif(place: Path, checks: Sequence[Check]) -> bytes:
    """The document, UTF-8; ``place`` is the path of what was checked, from the folder of the repository."""
    location = {"physicalLocation": {"artifactLocation": {"uri": _uri(place)}, "region": {"startLine": 1}}}
    results = [
        {
            "ruleId": shown(check.name),
            "level": _LEVELS[check.verdict],
            "message": {"text": shown_lines(check.text or f"{check.subject}: {check.name}: {check.verdict.value}")},
            "locations": [location],
            "partialFingerprints": {_FINGERPRINT: shown(f"{check.subject}/{check.name}")},
        }
        for check in checks
        if check.verdict in _LEVELS
    ]
    named = dict.fromkeys(shown(check.name) for check in checks if check.verdict in _LEVELS)
    rules = [{"id": name, "shortDescription": {"text": name}} for name in named]
    driver = {"name": GENERATOR, "version": __version__, "rules": rules}
    document = {"$schema": SARIF_SCHEMA, "version": "2.1.0", "runs": [{"tool": {"driver": driver}, "results": results}]}
    return json.dumps(document, indent=1).encode() + b"\n"


def _uri(place: Path) -> str:
    """Relative to this folder where it lies in it: services know a file by its path in the repository."""
    near = Path(os.path.relpath(place))
    told = place.resolve() if near.parts[:1] == (os.pardir,) else near
    return f"{'file://' if told.is_absolute() else ''}{quote(os.fsencode(told.as_posix()))}"
