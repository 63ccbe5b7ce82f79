"""The outcome of one requested artifact: built and verified, or the error that stopped it."""

from __future__ import annotations

from dataclasses import dataclass

from ulsam_deploy.device.errors import Exit, UlsamError, combine
from ulsam_deploy.device.verify import verdict_code
from ulsam_deploy.exporting.build import BuiltArtifact
from ulsam_deploy.exporting.options import ExportOptions
from ulsam_deploy.exporting.search import Found, Tuned

__all__ = ["Outcome"]


@dataclass(frozen=True)
class Outcome:
    """One target in one precision: ``built``, or the ``error`` that stopped it.

    ``folder`` is its folder in the bundle, ``found`` the result of ``auto``'s search, ``tuned`` that of ``--tune``.
    """

    target: str
    precision: str
    folder: str
    built: BuiltArtifact | None = None
    error: UlsamError | None = None
    required: bool = True
    found: Found | None = None
    tuned: Tuned | None = None

    def exit_code(self, options: ExportOptions) -> Exit:
        """What this artifact contributes to the exit code."""
        if self.built is None:
            return self.error.exit_code if self.error and self.required else Exit.OK
        missed = self.built.evidence.level < options.require
        over = self.found is not None and not self.found.met
        codes = [Exit.UNAVAILABLE if missed else Exit.OK, Exit.CHECK_FAILED if over else Exit.OK]
        return combine([verdict_code(self.built.evidence), *codes])
