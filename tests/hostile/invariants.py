"""What holds for every command, whatever it was given; the hostile corpus and the fault tests share it."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

from ulsam_deploy.device.errors import Exit

__all__ = ["CODES", "characters", "documents", "text"]

#: How a command may end; a defect of the program itself is none of these.
CODES = frozenset(map(int, Exit)) - {int(Exit.DEFECT)}
#: Joiners that some scripts need for spelling.
_JOINERS = frozenset("\u200c\u200d")


def characters(said: str) -> list[str]:
    """Characters in ``said`` that control what shows it: a terminal, or a page."""
    odd = {one for one in said if unicodedata.category(one) in ("Cc", "Cf", "Zl", "Zp") and one not in _JOINERS} - {
        "\n"
    }
    return [f"a control character {one!a}" for one in sorted(odd)]


def text(said: str) -> list[str]:
    """What must not be in the output of a command: insides, control characters, commands to a CI service."""
    found = ["a traceback"] if "Traceback (most recent call last)" in said else []
    commands = (line for line in said.splitlines() if line.lstrip().startswith("::") or re.search(r"##\w*\[", line))
    return [*found, *characters(said), *(f"a command to CI: {line[:60]!a}" for line in commands)]


def documents(folder: Path) -> str:
    """The text of every page, JUnit and SARIF document in ``folder``: a CI service shows what these hold."""
    found = [path.read_text(errors="replace") for path in sorted(folder.glob("*.html"))]
    for path in sorted(folder.glob("*.xml")):
        for element in ElementTree.parse(path).iter():
            found += [element.text or "", *element.attrib.values()]
    for path in sorted(folder.glob("*.sarif")):
        found += _strings(json.loads(path.read_bytes()))
    return "\n".join(found)


def _strings(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from _strings(inner)
