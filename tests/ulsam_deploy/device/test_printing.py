"""What a stranger calls things reaches terminals, logs and job summaries as text: it steers nothing, ends no line."""

from __future__ import annotations

import ast
import html
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from ulsam_deploy.device import printing
from ulsam_deploy.device.checks import Check
from ulsam_deploy.device.commands.annotations import lines as annotation_lines
from ulsam_deploy.device.commands.junit import junit
from ulsam_deploy.device.commands.markdown import markdown
from ulsam_deploy.device.commands.sarif import sarif
from ulsam_deploy.device.commands.words import print_table
from ulsam_deploy.device.errors import ExportError, ToolError
from ulsam_deploy.device.findings import Verdict
from ulsam_deploy.device.printing import complain, inert_json, say, shown, shown_lines

#: A title set, a screen cleared, lines ended in six ways, a command to GitHub, text turned round, half a character.
HOSTILE = "x\x1b]0;own\x07\x1b[2J\n::error::owned\r\x85\u2028\u2029\x0b\u202etxt.exe\u2066\ud800\x9b"
STEERING = set("\x1b\x07\n\r\x85\u2028\u2029\x0b\u202e\u2066\ud800\x9b")


@pytest.mark.parametrize("one", sorted(STEERING | set("\0\t\x7f\u200b\u200e\u200f\u061c\u2069\ufeff\U000e0041")))
def test_what_steers_is_escaped(one: str) -> None:
    assert shown(f"a{one}b") == f"a{one.encode('unicode_escape').decode()}b"


@pytest.mark.parametrize(
    "text",
    ["", "plain", "ünïcödé", "网络", "שלום", "می\u200cخواهم", "a\u3000b\xa0c", "👍🏽", r"C:\new"],  # noqa: RUF001
)
def test_ordinary_words_stay(text: str) -> None:
    assert shown(text) == text
    assert shown_lines(f"{text}\n{text}") == f"{text}\n{text}"


def test_a_line_stays_one_and_commands_nobody(capsys: pytest.CaptureFixture[str]) -> None:
    say(HOSTILE, f"  ::add-mask::{HOSTILE}", "see ##[add-mask]x and a::b")
    complain(ExportError(HOSTILE, expected=HOSTILE, todo=HOSTILE), HOSTILE)
    print_table(["name"], [[HOSTILE]])
    told = capsys.readouterr()
    assert not (STEERING - {"\n"}) & set(told.out + told.err)
    assert (told.out.count("\n"), told.err.count("\n")) == (6, 3)
    assert not any(line.lstrip().startswith("::") for line in (told.out + told.err).splitlines())
    assert "##[" not in told.out
    assert "a::b" in told.out


@pytest.mark.parametrize("command", ["##[error]x", "a ##vso[task.setvariable variable=x]y", "##teamcity[message]"])
def test_other_ci_services_get_no_commands_either(command: str) -> None:
    assert "##" not in shown_lines(f"a\n{command}")
    assert shown_lines("## a title [x], #1 and C##") == "## a title [x], #1 and C##"
    document = json.dumps({"a": command, "b": "## [x]"})
    assert json.loads(inert_json(document)) == json.loads(document)
    assert inert_json(document).count("##") == 1


def test_the_lines_of_a_tool_stay_lines() -> None:
    assert str(ToolError("it could not convert: no\nerror:\x1b op", todo="try")) == (
        "it could not convert: no\nerror:\\x1b op\n  do this:  try"
    )


def test_summaries_and_annotations_show_it_as_well() -> None:
    check = Check(HOSTILE, HOSTILE, Verdict.FAIL, HOSTILE)
    (line,) = annotation_lines([check])
    assert not STEERING & set(line)
    text = markdown(HOSTILE, HOSTILE, ["a"], [[HOSTILE]], [check])
    assert not (STEERING - {"\n"}) & set(text)
    text.encode()
    assert "www." not in markdown("www.x.org", "see WWW.x.org", [], [], [])
    for text in (junit(HOSTILE, [check]).decode(), "".join(map(str, _leaves(json.loads(sarif(Path("x"), [check])))))):
        assert not (STEERING - {"\n"}) & set(html.unescape(text))


def _leaves(value: object) -> Iterator[object]:
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from _leaves(inner)
    if not isinstance(value, dict | list):
        yield value


def test_nothing_is_printed_around_it() -> None:
    """One place prints; others write documents (JSON, a shell's script), or run alone on a board."""
    root = Path(printing.__file__).parents[2]
    documents = {"ci.py", "console.py", "documents.py", "printing.py"}
    alone = {"board.py"}
    found = set()
    for room in ("ulsam_deploy", "exporters", "runtimes"):
        for path in (root / room).rglob("*.py"):
            calls = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
            if {ast.unparse(call.func) for call in calls} & {"print", "sys.stdout.write", "sys.stderr.write"}:
                found.add(path.name)
    assert found <= documents | alone
