"""Emulated boards: artifacts are verified, and their instructions counted, on a processor that isn't here."""

from ulsam_deploy.boards.emulate.counting import NOTE, Counted, Counts, count_bundle
from ulsam_deploy.boards.emulate.machine import TrapError
from ulsam_deploy.boards.emulate.verifying import verify_bundle

__all__ = ["NOTE", "Counted", "Counts", "TrapError", "count_bundle", "verify_bundle"]
