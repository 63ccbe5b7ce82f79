"""Boards over SSH: nothing is installed there, and nothing is left there."""

from ulsam_deploy.boards.remote.job import Finished, Order, run_job
from ulsam_deploy.boards.remote.link import Link, StoppedError, check_host

__all__ = ["Finished", "Link", "Order", "StoppedError", "check_host", "run_job"]
