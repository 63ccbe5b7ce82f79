"""Whatever stands in a manifest: it is refused in words, or `inspect` and `report` work with it. Never a traceback."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ulsam_deploy.cli import main
from ulsam_deploy.device.bundle import MANIFEST, Manifest, json_schema
from ulsam_deploy.device.errors import Exit, RefusedError

from .full import changed, make_full, routes

pytest.importorskip("matplotlib")

#: One of each kind that JSON has, and the ends of each.
STRANGE: dict[str, Any] = {
    "null": None, "true": True, "minus one": -1, "zero": 0, "huge": 1e308, "tiny": 5e-324, "largest integer": 2**63,
    "no text": "", "markup": "\x1b[2J<img src=x>{{7*7}}", "long text": "x" * 5_000, "no list": [], "no object": {},
    "a list of lists": [[]], "an object of objects": {"a": {}}, "a list of objects": [{}],
}  # fmt: skip
#: What is checked against the members themselves: a change there never gets as far as a reader.
MEMBERS = ("files", "golden", "extras")


@pytest.fixture(scope="module")
def stock(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("full") / "full.bundle"
    make_full(folder)
    return folder


def read(stock: Path) -> Any:
    return json.loads((stock / MANIFEST).read_text())


def accepted(plain: Any) -> bool:
    """Whether a manifest is read; one that isn't is refused in words that name a place."""
    try:
        Manifest.from_json(json.dumps(plain))
    except RefusedError as error:
        assert error.exit_code == Exit.REFUSED  # noqa: PT017
        assert error.found.startswith("manifest.json")  # noqa: PT017
        return False
    return True


def commands_on(plain: Any, stock: Path, folder: Path) -> None:
    """`inspect` and `report` on the bundle with that manifest: done, or refused."""
    bundle = Path(shutil.copytree(stock, folder / "changed.bundle"))
    (bundle / MANIFEST).write_text(json.dumps(plain))
    for words in (["inspect", str(bundle)], ["report", str(bundle), "-o", str(folder / "page.html")]):
        assert main(words) in (Exit.OK, Exit.REFUSED), words
    shutil.rmtree(bundle)


def changes(plain: Any, value: Any) -> Iterator[tuple[tuple[Any, ...], Any]]:
    for route in routes(plain):
        if not set(route) & set(MEMBERS):
            yield route, changed(plain, route, value)


@pytest.mark.parametrize("kind", STRANGE)
def test_one_kind_of_value_wherever_it_is_allowed(kind: str, stock: Path, tmp_path: Path) -> None:
    """At every place, one by one: refused or read. Then at all places that allow it, together, in the commands."""
    whole = plain = read(stock)
    for route, alone in changes(plain, STRANGE[kind]):
        if accepted(alone) and accepted(together := changed_where_it_is(whole, route, STRANGE[kind])):
            whole = together
    commands_on(whole, stock, tmp_path)


def changed_where_it_is(plain: Any, route: tuple[Any, ...], value: Any) -> Any:
    """The same without complaint where an earlier change took the place away."""
    try:
        return changed(plain, route, value)
    except (KeyError, IndexError, TypeError):
        return plain


def test_a_list_that_would_keep_a_reader_busy_is_refused(stock: Path) -> None:
    plain = read(stock)
    many = [route for route in routes(plain) if isinstance(at(plain, route), (list, dict))]
    assert len(many) > 50
    for route in many:
        crowd = [None] * 10_001 if isinstance(at(plain, route), list) else dict.fromkeys(map(str, range(10_001)))
        with pytest.raises(RefusedError, match="10001 items are more than 10000"):
            Manifest.from_json(json.dumps(changed(plain, route, crowd)))


def test_a_block_that_is_no_graph_is_refused(stock: Path) -> None:
    plain = read(stock)
    place = ("artifacts", 0, "facts", "block", 0, "sources")
    for sources in ([0], [5], [-2], [-1] * 101):
        assert not accepted(changed(plain, place, sources)), sources
    steps = [{"name": "mul", "shape": "", "sources": [-1]}]
    assert accepted(changed(plain, place[:-2], steps * 2000))
    assert not accepted(changed(plain, place[:-2], steps * 2001))


def test_nothing_in_the_schema_is_free() -> None:
    """Every value has a type, and every object that is none of ours has values of one type without parts."""

    def check(rule: Any, where: str) -> None:
        assert rule, f"anything goes at {where}"
        for key, inner in rule.items():
            if isinstance(inner, dict) and key not in ("$defs", "properties"):
                check(inner, f"{where}/{key}")
            for name, found in inner.items() if key in ("$defs", "properties") else ():
                check(found, f"{where}/{key}/{name}")

    check(json_schema(), "#")


@pytest.mark.parametrize("parity", [{"outputs": [{}]}, {"blocks": [{}]}, {"outputs": None}, {}, [], "pass"])
def test_what_used_to_be_free_is_refused(
    parity: Any, stock: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = Path(shutil.copytree(stock, tmp_path / "free.bundle"))
    (bundle / MANIFEST).write_text(json.dumps(changed(read(stock), ("artifacts", 0, "evidence", "parity"), parity)))
    for words in (["inspect"], ["report", "-o", str(tmp_path / "page.html")], ["verify"]):
        assert main([words[0], str(bundle), *words[1:]]) == Exit.REFUSED
        assert "$.artifacts[0].evidence.parity" in capsys.readouterr().err


@pytest.mark.slow
def test_every_value_at_every_place(stock: Path, tmp_path: Path) -> None:
    plain = read(stock)
    for value in STRANGE.values():
        for _, alone in changes(plain, value):
            if accepted(alone):
                commands_on(alone, stock, tmp_path)


def at(plain: Any, route: tuple[Any, ...]) -> Any:
    for step in route:
        plain = plain[step]
    return plain
