"""Checks artifacts made by any tool against a checkpoint; such files are opened in a separate process only."""

from ulsam_deploy.against.check import Foreign, Question, verify_against
from ulsam_deploy.against.guard import Guarded
from ulsam_deploy.device.elsewhere.limits import Limits

__all__ = ["Foreign", "Guarded", "Limits", "Question", "verify_against"]
