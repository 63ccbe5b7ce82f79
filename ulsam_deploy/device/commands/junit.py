"""JUnit XML: one test case for each check, read by every CI. Standard library only.

The dialect is the one that Jenkins, GitLab and the common readers share: ``testsuites/testsuite/testcase`` with
``failure`` (a check failed), ``error`` (it was inconclusive) or ``skipped`` (nothing was run).
"""

from __future__ import annotations

from collections.abc import Sequence
from xml.etree import ElementTree as ET

from ulsam_deploy.device.bundle.kinds import GENERATOR
from ulsam_deploy.device.checks import Check
from ulsam_deploy.device.findings import Verdict
from ulsam_deploy.device.printing import shown, shown_lines

_KINDS = {Verdict.FAIL: "failure", Verdict.INCONCLUSIVE: "error", Verdict.UNVERIFIED: "skipped"}


def junit(suite: str, checks: Sequence[Check]) -> bytes:
    """The document, UTF-8; ``suite`` names the run (the bundle, the comparison)."""
    root = ET.Element("testsuites", _counts(checks), name=GENERATOR)
    holder = ET.SubElement(root, "testsuite", _counts(checks), name=shown(suite))
    for check in checks:
        case = ET.SubElement(
            holder, "testcase", classname=shown(f"{suite}.{check.subject}"), name=shown(check.name), time="0"
        )
        if check.verdict in _KINDS:
            first = check.text.splitlines()[0] if check.text else check.verdict.value
            told = ET.SubElement(case, _KINDS[check.verdict], type=check.verdict.value, message=shown(first))
            told.text = shown_lines(check.text)
    ET.indent(root)
    document: bytes = ET.tostring(root, encoding="utf-8", xml_declaration=True)
    return document + b"\n"


def _counts(checks: Sequence[Check]) -> dict[str, str]:
    found = [_KINDS.get(check.verdict, "") for check in checks]
    return {
        "tests": str(len(checks)),
        "failures": str(found.count("failure")),
        "errors": str(found.count("error")),
        "skipped": str(found.count("skipped")),
        "time": "0",
    }
