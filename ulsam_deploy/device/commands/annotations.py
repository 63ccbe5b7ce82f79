"""GitHub annotations: workflow commands that put a failure on the pull request's page. Standard library only.

Format: GitHub Docs, "Workflow commands for GitHub Actions": ``::error title={title}::{message}``, where percent signs
and line ends are escaped, and in a title ``:`` and ``,`` as well. Limits: 10 errors and 10 warnings a step.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

from ulsam_deploy.device.checks import Check
from ulsam_deploy.device.findings import Verdict
from ulsam_deploy.device.printing import shown, shown_lines

#: A step shows this many annotations of a kind and silently drops the rest.
MOST = 10
#: In characters; GitHub truncates longer messages.
LONGEST, LONGEST_TITLE = 4000, 200


def wanted() -> bool:
    """Whether this runs inside GitHub Actions."""
    return os.environ.get("GITHUB_ACTIONS") == "true"


def lines(checks: Sequence[Check]) -> list[str]:
    """One line for each failed check (``error``) and each inconclusive one (``warning``), within the limits."""
    return [
        *_of(checks, Verdict.FAIL, "error"),
        *_of(checks, Verdict.INCONCLUSIVE, "warning"),
    ]


def _of(checks: Sequence[Check], verdict: Verdict, command: str) -> list[str]:
    found = [check for check in checks if check.verdict is verdict]
    shown = found if len(found) <= MOST else found[: MOST - 1]
    told = [_line(command, f"{check.subject}: {check.name}", check.text) for check in shown]
    if len(shown) < len(found):
        rest = ", ".join(f"{check.subject} {check.name}" for check in found[len(shown) :])
        told.append(_line(command, f"and {len(found) - len(shown)} more", rest))
    return told


def _line(command: str, title: str, message: str) -> str:
    return f"::{command} title={_property(shown(title[:LONGEST_TITLE]))}::{_data(shown_lines(message[:LONGEST]))}"


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
