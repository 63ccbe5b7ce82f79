"""Fuzzes one parser with atheris: ``python -m tests.fuzz PARSER [libFuzzer's words]`` (``make fuzz`` does them all).

Starts from the seeds beside this file. New inputs that reach new code are kept in ``.fuzz/PARSER``, finds are left
there as ``crash-...``: put one into ``seeds/PARSER`` once it is mended.
"""

from __future__ import annotations

import sys
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["ulsam_deploy"]):
    from .parsers import PARSERS, SEEDS, judge


def main() -> None:
    """Never returns: libFuzzer ends the process, with 0 unless something was found."""
    if len(sys.argv) < 2 or sys.argv[1] not in PARSERS:
        sys.exit(f"usage: python -m tests.fuzz {{{','.join(PARSERS)}}} [-max_total_time=60 ...]")
    name, *words = sys.argv[1:]
    kept = Path(".fuzz", name)
    kept.mkdir(parents=True, exist_ok=True)
    limits = ["-timeout=30", "-rss_limit_mb=4096", "-max_len=65536", f"-artifact_prefix={kept}/", *words]
    parser = PARSERS[name]
    atheris.Setup([sys.argv[0], *limits, str(kept), str(SEEDS / name)], lambda data: bool(judge(parser, data)) and None)
    atheris.Fuzz()


main()
