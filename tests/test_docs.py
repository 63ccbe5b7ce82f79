"""The pages stay true: links lead somewhere, commands are understood, code blocks run, and the reference is current."""

from __future__ import annotations

import importlib.util
import os
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from ulsam_deploy.cli.parser import build_parser

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
#: A command at the start of an indented or fenced line; descriptions behind two spaces or a # are not part of it.
COMMAND = re.compile(r"^(?: {4}|\$ )?(ulsam-(?:export|deploy) [^#>\n]*?)(?:\s{2,}.*|\s*[#>].*)?$", re.MULTILINE)

#: What a page says without spelling it out, or leaves to a file.
SIGNS = ("...", "|", "--config")


def commands() -> list[tuple[str, str]]:
    found = [(page.name, command) for page in PAGES for command in COMMAND.findall(page.read_text())]
    return [(name, command) for name, command in found if not any(sign in command for sign in SIGNS)]


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


# --- code blocks ---

#: A fenced block, and the remark right before it that says why it is not run.
BLOCK = re.compile(
    r"(?:^<!-- not run: (?P<why>.+?) -->\n)?^```(?P<kind>\w*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL
)
RUN = {"bash": ["bash", "--noprofile", "--norc", "-e", "-o", "pipefail", "-c"], "python": [sys.executable, "-c"]}
#: Blocks to read: configuration, output, and signatures.
READ = {"yaml", "toml", "json", "text", "py"}


@dataclass(frozen=True)
class Code:
    kind: str
    text: str
    why: str | None


def blocks(page: Path) -> list[Code]:
    return [Code(found["kind"], found["text"], found["why"]) for found in BLOCK.finditer(page.read_text())]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_block_is_run_or_says_why_not(page: Path) -> None:
    found = blocks(page)
    assert page.read_text().count("```") == 2 * len(found), "a fence is not closed"
    assert {code.kind for code in found} <= {*RUN, *READ}
    assert all(code.kind in RUN for code in found if code.why), "a remark about a block that nobody runs anyway"


def test_most_blocks_are_run() -> None:
    whole = [code for page in PAGES for code in blocks(page) if code.kind in RUN]
    assert len([code for code in whole if not code.why]) >= 2 * len([code for code in whole if code.why]) > 0


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the pages call ``model.pt``."""
    path = tmp_path_factory.mktemp("docs") / "model.pt"
    words = f"new mobilenet_v2 --insert 6 --width 0.35 --classes 4 --input 3x64x64 -o {path}"
    subprocess.run([sys.executable, "-m", "ulsam_deploy", *words.split()], check=True, capture_output=True)
    return path


@pytest.mark.slow
@pytest.mark.parametrize(
    "page",
    [page for page in PAGES if any(code.kind in RUN and not code.why for code in blocks(page))],
    ids=lambda page: page.name,
)
def test_the_blocks_of_a_page_run_in_order(page: Path, model: Path, tmp_path: Path) -> None:
    (tmp_path / "model.pt").write_bytes(model.read_bytes())
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "ULSAM_DEPLOY_CACHE": str(model.parent / "cache"),
    }
    for code in blocks(page):
        if code.kind in RUN and not code.why:
            done = subprocess.run(
                [*RUN[code.kind], code.text], cwd=tmp_path, env=environment, capture_output=True, text=True
            )
            assert done.returncode == 0, f"{code.text}\n{done.stdout[-1000:]}\n{done.stderr[-2000:]}"


@pytest.mark.slow  # with the pages' blocks, in 'make test-docs'
def test_the_reference_is_what_the_docstrings_say() -> None:
    pytest.importorskip("griffe2md", reason="needs griffe2md, which writes docs/api.md")
    spec = importlib.util.spec_from_file_location("make_api", ROOT / "docs" / "make_api.py")
    assert spec
    assert spec.loader
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    assert made.PAGE.read_text() == made.reference(), "write it again: python docs/make_api.py"
