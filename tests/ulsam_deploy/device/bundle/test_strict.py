"""Strict JSON: what isn't declared is refused, with the path and the nearest known key."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest

from ulsam_deploy.device import codec
from ulsam_deploy.device.errors import ExportError, RefusedError, UsageError


class Colour(enum.Enum):
    RED = "red"


@dataclass(frozen=True)
class Leaf:
    name: str = field(metadata={"pattern": "[a-z]+"})
    count: int = field(metadata={"minimum": 0})
    ratio: float
    alive: bool


@dataclass(frozen=True)
class Tree:
    leaves: tuple[Leaf, ...]
    colour: Colour
    note: str | None
    free: Mapping[str, Any]
    words: Mapping[str, str]


TREE = Tree((Leaf("oak", 1, 0.5, True),), Colour.RED, None, {"x": [1, {"y": None}]}, {"a": "b"})


def spoil(*route: Any, value: Any) -> Any:
    plain = codec.encode(TREE, "tree")
    inner = plain
    for step in route[:-1]:
        inner = inner[step]
    inner[route[-1]] = value
    return plain


def test_what_is_encoded_is_decoded() -> None:
    text = codec.dumps(codec.encode(TREE, "tree"))
    assert codec.decode(Tree, codec.loads(text.encode(), "tree"), "tree") == TREE


def test_a_whole_number_is_a_number_but_no_boolean_is() -> None:
    assert codec.decode(Tree, spoil("leaves", 0, "ratio", value=2), "tree").leaves[0].ratio == 2.0
    with pytest.raises(RefusedError, match="True has the wrong type"):
        codec.decode(Tree, spoil("leaves", 0, "ratio", value=True), "tree")


@pytest.mark.parametrize(
    ("route", "value", "where", "words"),
    [
        (("leaves", 0, "cuont"), 1, "$.leaves[0]", "nearest: 'count'"),
        (("leaves", 0, "name"), "Oak", "$.leaves[0].name", "isn't allowed"),
        (("leaves", 0, "name"), "oak\n", "$.leaves[0].name", "isn't allowed"),
        (("leaves", 0, "count"), -1, "$.leaves[0].count", "too small"),
        (("leaves", 0, "count"), 1.0, "$.leaves[0].count", "a whole number"),
        (("leaves", 0, "count"), True, "$.leaves[0].count", "a whole number"),
        (("leaves", 0, "alive"), 1, "$.leaves[0].alive", "true or false"),
        (("leaves",), {}, "$.leaves", "a list"),
        (("leaves", 0), [], "$.leaves[0]", "an object (Leaf)"),
        (("colour",), "blue", "$.colour", "red"),
        (("colour",), ["red"], "$.colour", "red"),
        (("note",), 3, "$.note", "text"),
        (("words", "a b"), 3, "$.words['a b']", "text"),
    ],
)
def test_a_misfit_is_refused_with_its_path(route: tuple[Any, ...], value: Any, where: str, words: str) -> None:
    with pytest.raises(UsageError) as caught:
        codec.decode(Tree, spoil(*route, value=value), "tree", UsageError)
    assert f"tree: at {where}: " in str(caught.value)
    assert words in str(caught.value)


@pytest.mark.parametrize("missing", ["leaves", "colour", "note", "free", "words"])
def test_a_missing_key_is_refused(missing: str) -> None:
    plain = codec.encode(TREE, "tree")
    del plain[missing]
    with pytest.raises(RefusedError, match=f"the key '{missing}' is missing"):
        codec.decode(Tree, plain, "tree")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b'{"a": 1, "a": 2}', "appears twice"),
        (b'{"a": NaN}', "NaN isn't JSON"),
        (b'{"a": -Infinity}', "isn't JSON"),
        (b'{"a": 1e999}', "at $.a: inf isn't a finite"),
        (b'{"a": 36893488147419103232}', "more than 64 bits"),
        (b'{"a": ' + b"9" * 5000 + b"}", "isn't valid JSON"),
        (b'["\\ud800"]', r"at $[0]: '\ud800' isn't valid Unicode"),
        (b'{"\\ud800": 1}', "isn't text"),
        (b"[" * 70 + b"]" * 70, "levels deep"),
        (b"[" * 200_000, "nested too deeply"),
        (b"\xff\xfe", "isn't valid JSON"),
        (b"\xef\xbb\xbf{}", "isn't valid JSON"),
        (b"", "isn't valid JSON"),
        (b"{} {}", "isn't valid JSON"),
    ],
)
def test_text_that_readers_disagree_about_is_refused(text: bytes, words: str) -> None:
    with pytest.raises(RefusedError) as caught:
        codec.loads(text, "tree")
    assert words in str(caught.value)


@pytest.mark.parametrize("value", [float("nan"), {1: 2}, {"a": {3}}, b"bytes", 2**64, object()])
def test_what_json_cannot_hold_is_not_written(value: Any) -> None:
    with pytest.raises(ExportError, match=r"tree: at \$"):
        codec.encode({"value": value}, "tree")


def test_a_hostile_value_never_reaches_the_terminal_raw_or_whole() -> None:
    with pytest.raises(RefusedError) as caught:
        codec.decode(Tree, spoil("colour", value="\x1b[2J" * 1000), "tree")
    assert "\x1b" not in str(caught.value)
    assert len(str(caught.value)) < 300
