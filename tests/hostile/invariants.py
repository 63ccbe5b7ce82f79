"""What holds for every command, whatever it was given; the hostile corpus and the fault tests share it."""

from __future__ import annotations

import unicodedata

from ulsam_deploy.device.errors import Exit

__all__ = ["CODES", "text"]

#: How a command may end; a defect of the program itself is none of these.
CODES = frozenset(map(int, Exit)) - {int(Exit.DEFECT)}
#: Joiners that some scripts need for spelling.
_JOINERS = frozenset("\u200c\u200d")


def text(said: str) -> list[str]:
    """What must not be in the output of a command: insides, control characters, commands to a CI service."""
    found = ["a traceback"] if "Traceback (most recent call last)" in said else []
    odd = {one for one in said if unicodedata.category(one) in ("Cc", "Cf", "Zl", "Zp") and one not in _JOINERS} - {
        "\n"
    }
    found += [f"a control character {one!a}" for one in sorted(odd)]
    lines = said.splitlines()
    return [
        *found,
        *(f"a command to CI: {line[:60]!a}" for line in lines if line.lstrip().startswith("::") or "##[" in line),
    ]
