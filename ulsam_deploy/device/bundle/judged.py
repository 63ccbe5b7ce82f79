"""What bundles and verifications have in common for Python programs: whether all checks held, and a summary.

Standard library only; device-safe.
"""

from __future__ import annotations

import abc
import html
from dataclasses import dataclass

from ulsam_deploy.device.errors import CheckFailedError, Exit, combine
from ulsam_deploy.device.findings import Verdict
from ulsam_deploy.device.types import EvidenceLevel

__all__ = ["CODES", "Finding", "Judged"]

#: What a verdict contributes to the exit code.
CODES = {
    Verdict.PASS: Exit.OK,
    Verdict.UNVERIFIED: Exit.OK,
    Verdict.FAIL: Exit.CHECK_FAILED,
    Verdict.INCONCLUSIVE: Exit.INCONCLUSIVE,
}
_COLUMNS = ("target", "precision", "evidence", "verdict", "why")


@dataclass(frozen=True)
class Finding:
    """One artifact: its evidence level and verdict; ``code`` is its contribution to the exit code."""

    target: str
    precision: str
    level: EvidenceLevel | None
    verdict: Verdict
    code: Exit
    why: str

    @property
    def words(self) -> str:
        """``onnx fp32 pass``."""
        return f"{self.target} {self.precision} {self.verdict.value}"


class Judged(abc.ABC):
    """Results of several artifacts. It passed if at least one of them passed and none counts against it."""

    @property
    @abc.abstractmethod
    def findings(self) -> tuple[Finding, ...]:
        """One finding for each artifact, in order."""

    @property
    def exit_code(self) -> Exit:
        """The exit code that the command line has for this; 4 if nothing was run, so nothing was checked."""
        code = combine(finding.code for finding in self.findings)
        ran = any(finding.verdict is Verdict.PASS for finding in self.findings)
        return Exit.UNAVAILABLE if code is Exit.OK and not ran else code

    @property
    def passed(self) -> bool:
        """Whether at least one artifact passed its check, and none failed or was inconclusive.

        An artifact that no engine here could run counts neither way, unless its target was requested by name.
        """
        return self.exit_code is Exit.OK

    def raise_if_failed(self) -> None:
        """Raise an error unless it :attr:`passed`.

        Raises:
            CheckFailedError: What failed, artifact by artifact; its ``exit_code`` is :attr:`exit_code`.
        """
        if self.passed:
            return
        against = [finding for finding in self.findings if finding.code is not Exit.OK]
        what = "not everything held" if against else "nothing was run, so nothing was checked"
        raise CheckFailedError(
            "\n".join([f"{what}:", *(f"    {found.words}: {found.why}" for found in against or self.findings)]),
            expected="every artifact that can run here passes its check, and at least one does",
            exit_code=self.exit_code,
        )

    def _words(self) -> str:
        return ", ".join(finding.words for finding in self.findings) or "no artifact"

    def _table(self, title: str) -> str:
        """A small table in HTML; everything in it is escaped."""
        rows = [
            (f.target, f.precision, f.level.label if f.level else "-", f.verdict.value, f.why) for f in self.findings
        ]
        head = "".join(f"<th>{name}</th>" for name in _COLUMNS)
        body = "".join("<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
        return f"<table><caption>{html.escape(title)}</caption><tr>{head}</tr>{body}</table>"
