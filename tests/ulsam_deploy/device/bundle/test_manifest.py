"""The manifest: what it writes it reads, whatever else is refused in words, and the published schema says the same."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ulsam_deploy.device import codec
from ulsam_deploy.device.bundle import SCHEMA, Bundle, FileRecord, Manifest, json_schema
from ulsam_deploy.device.bundle.manifest import MEMBER_NAME
from ulsam_deploy.device.errors import RefusedError, UlsamError

SHARED = settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
NUMBERS = ("integer", "number")
PUBLISHED = Path(__file__).parents[4] / "docs" / "bundle.schema.json"

LEAVES = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8)
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


def places(value: Any, route: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The route to every value inside ``value``."""
    steps = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [route] * bool(route) + [place for step, inner in steps for place in places(inner, (*route, step))]


@st.composite
def mutations(draw: st.DrawFn) -> Callable[[Any], Any]:
    """A few changes to a JSON tree: a value replaced, copied from elsewhere, deleted, or a key added or renamed."""
    changes = draw(st.lists(st.tuples(st.sampled_from("rdack"), st.integers(0, 10**6), VALUES), min_size=1, max_size=3))

    def apply(tree: Any) -> Any:
        tree = copy.deepcopy(tree)
        for kind, pick, value in changes:
            routes = places(tree)
            *route, last = routes[pick % len(routes)]
            holder = tree
            for step in route:
                holder = holder[step]
            if kind == "r":
                holder[last] = value
            elif kind == "c":
                holder[last] = copy.deepcopy(_at(tree, routes[(pick // 7) % len(routes)]))
            elif kind == "d":
                del holder[last]
            elif isinstance(holder, dict):
                holder[f"{last}x" if kind == "a" else str(value)] = holder[last] if kind == "a" else holder.pop(last)
        return tree

    return apply


def _at(tree: Any, route: tuple[Any, ...]) -> Any:
    for step in route:
        tree = tree[step]
    return tree


def test_what_is_written_is_read(bundle: Bundle) -> None:
    text = bundle.manifest.to_json()
    assert Manifest.from_json(text) == bundle.manifest
    assert Manifest.from_json(text).to_json() == text
    assert json.loads(text)["artifacts"][0]["evidence"]["level"] == "executed"
    assert json.loads(text)["schema"] == SCHEMA


@SHARED
@given(change=mutations())
def test_a_changed_manifest_is_refused_in_words_or_read_as_it_stands(
    bundle: Bundle, change: Callable[[Any], Any]
) -> None:
    changed = change(json.loads(bundle.manifest.to_json()))
    try:
        manifest = Manifest.from_json(json.dumps(changed))
    except UlsamError as error:
        assert error.exit_code == 6  # noqa: PT017
        assert error.found.startswith("manifest.json")  # noqa: PT017
    else:
        assert json.loads(manifest.to_json()) == changed
        assert Manifest.from_json(manifest.to_json()) == manifest


@SHARED
@given(at=st.floats(0, 1), length=st.integers(0, 20), junk=st.binary(max_size=20))
def test_damaged_bytes_are_refused_in_words_or_read_as_they_stand(
    bundle: Bundle, at: float, length: int, junk: bytes
) -> None:
    text = bundle.manifest.to_json().encode()
    start = int(at * len(text))
    try:
        manifest = Manifest.from_json(text[:start] + junk + text[start + length :])
    except UlsamError as error:
        assert error.exit_code == 6  # noqa: PT017
    else:
        assert Manifest.from_json(manifest.to_json()) == manifest


def test_every_truncation_is_refused(bundle: Bundle) -> None:
    text = bundle.manifest.to_json().rstrip("\n")
    for length in range(len(text)):
        with pytest.raises(RefusedError):
            Manifest.from_json(text[:length])


@pytest.mark.parametrize(
    "name",
    ["../x", "/x", "a/../x", "a//b", "a/", ".", "..", "", ".hidden", "a\\b", "C:x", "a\0b", "a\nb", "é", "a b",
     "a/.b", "~", "x" * 200, "/".join("abcdefghi"), "manifest.json", "Manifest.JSON", "ONNX/model.onnx", "onnx",
     "golden.npz/x"],
)  # fmt: skip
def test_a_name_that_no_folder_should_hold_is_refused(bundle: Bundle, name: str) -> None:
    plain = json.loads(bundle.manifest.to_json())
    plain["extras"][0]["path"] = name
    with pytest.raises(RefusedError, match=r"manifest\.json"):
        Manifest.from_json(json.dumps(plain))


def test_an_artifact_needs_files_and_a_target_and_precision_of_its_own(bundle: Bundle) -> None:
    plain = json.loads(bundle.manifest.to_json())
    plain["artifacts"][0]["files"] = []
    with pytest.raises(RefusedError, match="has no files"):
        Manifest.from_json(json.dumps(plain))
    plain = json.loads(bundle.manifest.to_json())
    plain["artifacts"][0]["target"] = plain["artifacts"][1]["target"]
    with pytest.raises(RefusedError, match="two artifacts"):
        Manifest.from_json(json.dumps(plain))


def test_another_version_says_so(bundle: Bundle) -> None:
    for schema in ("ulsam-deploy.bundle/1", "ulsam-deploy.bundle/3", "ulsam-deploy.bundle/6"):
        plain = {"schema": schema, "model": {"of": "another version"}}
        with pytest.raises(RefusedError, match=f"another version of the format: {schema}") as caught:
            Manifest.from_json(json.dumps(plain))
        assert "ulsam-deploy export MODEL --output NEW.bundle" in caught.value.todo
    with pytest.raises(RefusedError, match="another ulsam-deploy"):
        Manifest.from_json(bundle.manifest.to_json().replace(SCHEMA, "ulsam-deploy.bench/2"))


def test_the_version_before_is_read(bundle: Bundle) -> None:
    plain = json.loads(bundle.manifest.to_json())
    plain["schema"] = "ulsam-deploy.bundle/4"
    for artifact in plain["artifacts"]:
        del artifact["evidence"]["parity"]["gates"]
    assert Manifest.from_json(json.dumps(plain)) == bundle.manifest
    plain["artifacts"][0]["evidence"]["parity"]["gates"] = [{"block": "se"}]
    with pytest.raises(RefusedError, match=r"artifacts\[0\].evidence.parity: .*bundle/4 has no key 'gates'"):
        Manifest.from_json(json.dumps(plain))


@pytest.mark.parametrize("artifacts", [None, {}, [None], [{"evidence": None}], [{"evidence": []}]])
def test_a_hostile_manifest_of_the_version_before_is_refused(artifacts: object) -> None:
    with pytest.raises(RefusedError, match=r"manifest\.json"):
        Manifest.from_json(json.dumps({"schema": "ulsam-deploy.bundle/4", "artifacts": artifacts}))


def test_the_published_schema_is_the_one_the_code_follows() -> None:
    assert PUBLISHED.read_text() == codec.dumps(json_schema()), (
        "write it again: python -c 'from ulsam_deploy.device.bundle import *; from ulsam_deploy.device import codec; "
        f'print(codec.dumps(json_schema()), end="")\' > {PUBLISHED.name}'
    )


@SHARED
@given(change=mutations())
def test_the_schema_accepts_what_the_code_accepts(bundle: Bundle, change: Callable[[Any], Any]) -> None:
    changed = change(json.loads(bundle.manifest.to_json()))
    schema = json_schema()
    try:
        codec.decode(Manifest, changed, "manifest.json")
    except RefusedError:
        assert not conforms(changed, schema, schema)
    else:
        assert conforms(changed, schema, schema)


def conforms(value: Any, rule: dict[str, Any], root: dict[str, Any]) -> bool:
    """The few words of JSON Schema that ours uses, read independently of the code that made it."""
    if "$ref" in rule:
        return conforms(value, root["$defs"][rule["$ref"].rsplit("/", 1)[1]], root)
    if "anyOf" in rule:
        return any(conforms(value, option, root) for option in rule["anyOf"])
    if "enum" in rule:
        return any(value == option and isinstance(value, str) for option in rule["enum"])
    kind = rule["type"]
    if kind == "array":
        if not isinstance(value, list) or len(value) > rule.get("maxItems", len(value)):
            return False
        return all(conforms(item, rule["items"], root) for item in value)
    if kind == "object":
        if not isinstance(value, dict) or set(rule.get("required", ())) - set(value):
            return False
        known, rest = rule.get("properties", {}), rule["additionalProperties"]
        if rest is False and set(value) - set(known):
            return False
        return all(conforms(item, known.get(key, rest), root) for key, item in value.items())
    return _is_scalar(value, kind, rule)


def _is_scalar(value: Any, kind: str, rule: dict[str, Any]) -> bool:
    if kind == "boolean" or isinstance(value, bool):
        return kind == "boolean" and isinstance(value, bool)
    types: dict[str, Any] = {"string": str, "integer": int, "number": (int, float), "null": type(None)}
    fits = isinstance(value, types[kind])
    if fits and "pattern" in rule:
        fits = re.search(rule["pattern"].replace("$", r"\Z"), value) is not None
    return fits and rule.get("minimum", value) <= value <= rule.get("maximum", value) if kind in NUMBERS else fits


@pytest.mark.parametrize("name", ["CON", "aux.npz", "nul", "COM1.txt", "onnx/lpt9.bin", "prn.a.b", "a.", "onnx./x"])
def test_a_name_that_windows_reserves_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="Windows"):
        FileRecord(name, "0" * 64, 1)


@pytest.mark.parametrize("name", ["console", "auxiliary.npz", "com10", "a.con", "onnx/nuls.bin", "x.y"])
def test_a_name_that_only_begins_so_is_fine(name: str) -> None:
    assert FileRecord(name, "0" * 64, 1).path == name


def test_the_name_pattern_is_not_slow() -> None:
    assert re.fullmatch(MEMBER_NAME, "a" * 100_000 + "!") is None
    assert re.fullmatch(MEMBER_NAME, "a/" * 50_000) is None
