"""The result of :func:`ulsam_deploy.verify`, for programs and notebooks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import overload

from ulsam_deploy.device.bundle.judged import Finding, Judged
from ulsam_deploy.device.errors import Exit, UnavailableError
from ulsam_deploy.device.findings import Verdict
from ulsam_deploy.device.verify import Checked

__all__ = ["Verification"]


@dataclass(frozen=True)
class Verification(Judged, Sequence[Checked]):
    """The results for all artifacts of a bundle: a sequence of :class:`~ulsam_deploy.device.verify.Checked`.

    ``bundle`` is its path; ``targets`` are those requested by name, empty for all that can run here.
    """

    bundle: Path
    checked: tuple[Checked, ...]
    targets: tuple[str, ...] = ()

    @overload
    def __getitem__(self, index: int) -> Checked: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Checked, ...]: ...
    def __getitem__(self, index: int | slice) -> Checked | tuple[Checked, ...]:
        return self.checked[index]

    def __len__(self) -> int:
        return len(self.checked)

    @property
    def findings(self) -> tuple[Finding, ...]:
        """One finding for each artifact; one that no engine here runs counts if it was requested by name."""
        return tuple(self._finding(item) for item in self.checked)

    def _finding(self, item: Checked) -> Finding:
        record = item.record
        if item.evidence is not None:
            evidence = item.evidence
            why = " ".join(reason.text for reason in evidence.reasons)
            return Finding(record.target, record.precision, evidence.level, evidence.verdict, item.exit_code, why)
        left_out = isinstance(item.error, UnavailableError) and record.target not in self.targets
        code = Exit.OK if left_out else item.exit_code
        verdict = Verdict.UNVERIFIED if isinstance(item.error, UnavailableError) else Verdict.FAIL
        why = ": ".join(filter(None, (item.error.found, item.error.todo))) if item.error else ""
        return Finding(record.target, record.precision, None, verdict, code, why)

    def __repr__(self) -> str:
        return f"<Verification of {str(self.bundle)!r}: {self._words()}>"

    def _repr_html_(self) -> str:
        return self._table(f"{self.bundle}, verified here")
