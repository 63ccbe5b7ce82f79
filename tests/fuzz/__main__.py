"""Fuzzes one parser with atheris: ``python -m tests.fuzz PARSER [libFuzzer's words]`` (``make fuzz`` does them all).

Starts from the seeds beside this file. A document is changed by its form as often as byte by byte. New inputs that
reach new code are kept in ``.fuzz/PARSER``, finds are left there as ``crash-...``: put one into ``seeds/PARSER`` once
it is mended.
"""

from __future__ import annotations

import random
import sys
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["ulsam_deploy"]):
    from .parsers import FORMS, PARSERS, SEEDS, judge


def main() -> None:
    """Never returns: libFuzzer ends the process, with 0 unless something was found."""
    if len(sys.argv) < 2 or sys.argv[1] not in PARSERS:
        sys.exit(f"usage: python -m tests.fuzz {{{','.join(PARSERS)}}} [-max_total_time=60 ...]")
    name, *words = sys.argv[1:]
    kept = Path(".fuzz", name)
    kept.mkdir(parents=True, exist_ok=True)
    limits = ["-timeout=30", "-rss_limit_mb=4096", "-max_len=65536", f"-artifact_prefix={kept}/", *words]
    parser, form = PARSERS[name], FORMS.get(name)

    def changed(data: bytes, most: int, seed: int) -> bytes:
        chance = random.Random(seed)
        made = form.changed(data, chance) if form and chance.random() < 0.5 else None
        return made if made is not None and len(made) <= most else atheris.Mutate(data, most)

    words = [sys.argv[0], *limits, str(kept), str(SEEDS / name)]
    own = {"custom_mutator": changed} if form else {}
    atheris.Setup(words, lambda data: bool(judge(parser, data)) and None, **own)
    atheris.Fuzz()


main()
