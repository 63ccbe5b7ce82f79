"""Words in, exit code out: ``ulsam-deploy`` and its short form ``ulsam-export``."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Sequence
from importlib import import_module

from ulsam_deploy.errors import Exit, UlsamError


def main(argv: Sequence[str] | None = None) -> int:
    """Run one ``ulsam-deploy`` command; returns its exit code and never shows a user a traceback of a known error."""
    from ulsam_deploy.cli.parser import build_parser

    arguments = build_parser().parse_args(argv)
    try:
        command = import_module(f"ulsam_deploy.cli.{arguments.command}")
        return int(command.run(arguments))
    except UlsamError as error:
        sys.stderr.write(f"error: {error}\n")
        return int(error.exit_code)
    except KeyboardInterrupt:
        sys.stderr.write("interrupted: nothing was left half-written\n")
        return int(Exit.INTERRUPTED)
    except BrokenPipeError:  # the reader of our output went away (| head): not our error, nothing more to say
        with contextlib.suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return int(Exit.OK)


def export_main(argv: Sequence[str] | None = None) -> int:
    """``ulsam-export MODEL ...`` is ``ulsam-deploy export MODEL ...``."""
    return main(["export", *(sys.argv[1:] if argv is None else argv)])
