"""SECURITY.md: every sentence has a test that holds it, and the tests of the sentences that no other file holds."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path
from typing import Any

import pytest

import ulsam_deploy as ud
from ulsam_deploy.device.elsewhere.limits import Limits
from ulsam_deploy.device.errors import RefusedError
from ulsam_deploy.device.verify import bounds

from .ulsam_deploy.handmade import make_bundle

ROOT = Path(__file__).parents[1]
UNTESTED = {"a limit", "a promise", "advice"}


def sentences(text: str) -> list[str]:
    """What a page says: the rows of its tables, and the sentences of its paragraphs; not code, and what ends in ':'."""
    found = []
    for part in re.split(r"\n\n+", text.strip("\n")):
        lines = part.splitlines()
        if lines and lines[0].startswith("|"):
            found += [line.strip("| ") for line in lines[2:]]
        elif not part.startswith(("#", "    ")):
            found += re.split(r"(?<=[.!?]) +(?=[A-Z`])", " ".join(lines))
    return [one for one in found if one and not one.endswith(":")]


def said() -> list[str]:
    """The sentences of SECURITY.md without its introduction."""
    text = (ROOT / "SECURITY.md").read_text()
    return sentences(text[text.index("\n## ") :])


def held() -> dict[str, str]:
    """By how a sentence begins: what holds it."""
    text = (ROOT / "docs" / "security.md").read_text().partition("## Each sentence")[2].partition("\n## ")[0]
    rows = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("|")][2:]
    assert len({begin for begin, _ in rows}) == len(rows)
    return dict(rows)


@cache
def functions(path: Path) -> set[str]:
    tree = ast.parse(path.read_text())
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


def test_every_sentence_is_held() -> None:
    table, found = held(), said()
    for sentence in found:
        assert len([begin for begin in table if sentence.startswith(begin)]) == 1, sentence
    for begin in table:
        assert len([one for one in found if one.startswith(begin)]) == 1, begin


def test_what_holds_it_exists() -> None:
    for begin, cell in held().items():
        tests = re.findall(r"`([^`]+)`", cell)
        assert tests or cell in UNTESTED, begin
        for path, _, name in (one.partition("::") for one in tests):
            assert name.startswith("test_"), name
            assert name in functions(ROOT / path), f"{begin}: {path}::{name}"


def test_a_sentence_is_not_overlooked() -> None:
    text = "# Page\n\nOne. Two `x` (a. b) is\nlong: and more. `ud.open()` opens.\nHere:\n\n    code. Here\n"
    text += "\n| a | b |\n|---|---|\n| c | d. E |"
    assert sentences(text) == ["One.", "Two `x` (a. b) is long: and more.", "`ud.open()` opens.", "c | d. E"]


def test_native_code_runs_outside_the_jail_unless_it_is_required() -> None:
    class Native:
        native = True

    class Plain:
        native = False

    def jail(engine: Any, mode: str) -> str:
        return bounds(engine, Limits(1.0, 1 << 30, mode)).jail

    assert [jail(Native, mode) for mode in ("auto", "require", "off")] == ["off", "require", "off"]
    assert [jail(Plain, mode) for mode in ("auto", "require", "off")] == ["auto", "require", "off"]


def test_an_altered_bundle_is_not_opened(tmp_path: Path) -> None:
    pytest.importorskip("onnx")
    root = make_bundle(tmp_path / "dense.bundle", targets=("onnx",), width=16, batch=1).root
    with ud.open(root, "onnx"):
        pass
    path = root / "onnx" / "model.onnx"
    path.write_bytes(path.read_bytes()[:-1] + b"!")
    with pytest.raises(RefusedError):
        ud.open(root, "onnx")
