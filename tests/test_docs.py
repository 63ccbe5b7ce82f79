"""The pages stay true: every link leads somewhere, and every command in them is one that the parser knows."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from ulsam_deploy.cli.parser import build_parser

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
#: A command at the start of an indented or fenced line; descriptions behind two spaces or a # are not part of it.
COMMAND = re.compile(r"^(?: {4}|\$ )?(ulsam-(?:export|deploy) [^#\n]*?)(?:\s{2,}.*|\s*#.*)?$", re.MULTILINE)


def commands() -> list[tuple[str, str]]:
    found = [(page.name, command) for page in PAGES for command in COMMAND.findall(page.read_text())]
    return [(name, command) for name, command in found if "..." not in command and "|" not in command]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text())
    assert [link for link in links if "://" not in link and not (page.parent / link).exists()] == []


def test_there_are_commands_to_check() -> None:
    assert len(commands()) >= 15


@pytest.mark.parametrize(("page", "command"), commands())
def test_commands_are_understood(page: str, command: str) -> None:
    program, *words = shlex.split(command)
    build_parser().parse_args(["export", *words] if program == "ulsam-export" else words)
