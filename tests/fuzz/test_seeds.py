"""Every parser on its seeds (sound files and earlier finds) and on what chance makes of them; longer with atheris."""

from __future__ import annotations

import importlib.util
import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

from ulsam_deploy.device import toml
from ulsam_deploy.device.errors import UsageError

pytest.importorskip("onnx")
pytest.importorskip("torch")

from . import commands
from .commands import TARGETS
from .parsers import FORMS, PARSERS, SEEDS, judge
from .structure import EVIL, Form

ROOT = Path(__file__).parents[2]


def spoiled(data: bytes, chance: random.Random) -> bytes:
    """``data`` with a few bytes changed, moved, doubled or cut."""
    made = bytearray(data)
    for _ in range(chance.randint(1, 4)):
        start = chance.randrange(len(made) + 1)
        stop = min(len(made), start + chance.choice([1, 1, 4, 40]))
        how = chance.randrange(5)
        if how == 0 and start < len(made):
            made[start] ^= 1 << chance.randrange(8)
        elif how == 1:
            del made[start:stop]
        elif how == 2:
            made[start:start] = made[start:stop]
        elif how == 3:
            made[start:stop] = chance.choice([b"\xff" * 4, b"\0" * 8, b"Infinity", b"-1", b"1e999", b'"', b"[]", b"{}"])
        else:
            del made[start:]
    return bytes(made)


@pytest.mark.parametrize("name", PARSERS)
def test_seeds_and_what_chance_makes_of_them(name: str) -> None:
    seeds = sorted((SEEDS / name).iterdir())
    sound = [path for path in seeds if not path.name.startswith("crash-")]
    assert sound
    accepted = [judge(PARSERS[name], path.read_bytes()) for path in sound]
    assert all(accepted), "a seed that is refused leads nowhere"
    chance, refused, form = random.Random(name), 0, FORMS.get(name)
    times = 4 if name in TARGETS else 60
    for path in seeds:
        data = path.read_bytes()
        judge(PARSERS[name], data)
        for turn in range(times):
            made = form.changed(data, chance) if form and turn % 2 else None
            refused += not judge(PARSERS[name], made or spoiled(data, chance))
    assert refused > times / 6


@pytest.mark.parametrize("name", FORMS)
def test_what_a_form_allows_gets_past_its_reader(name: str) -> None:
    """Or everything behind the readers would stay untried."""
    form, chance = FORMS[name], random.Random(0)
    reader = {"inspect_bundle": "manifest", "report_bundle": "manifest", "compare_bundles": "manifest",
              "report_result": "results", "compare_results": "results"}.get(name, name)  # fmt: skip
    data = next(path.read_bytes() for path in sorted((SEEDS / name).iterdir()))
    made = [form.changed(data, chance) for _ in range(60)]
    assert len({one for one in made if one}) > 40
    if reader not in TARGETS:
        assert 2 <= sum(judge(PARSERS[reader], one) for one in made if one) < 60


def test_a_document_is_changed_where_its_schema_says_what_stands_there() -> None:
    schema = {
        "type": "object",
        "properties": {
            "a": {"anyOf": [{"$ref": "#/$defs/B"}, {"type": "null"}]},
            "n": {"type": "integer", "minimum": 1},
        },
        "$defs": {"B": {"type": "object", "properties": {"t": {"type": "string"}}, "required": ["t"]}},
    }
    form, chance = Form(schema), random.Random(0)
    made = [json.loads(form.changed(b'{"a": {"t": "x"}, "n": 3}', chance)) for _ in range(400)]
    assert any(isinstance(one.get("a"), dict) and one["a"].get("t") == EVIL for one in made)
    assert any(one.get("n") == 1 << 63 for one in made)
    assert any(EVIL in one for one in made)
    assert form.changed(b"no document", chance) is None
    assert {type(form.drawn({"type": "integer", "minimum": 5}, chance)) for _ in range(9)} == {int}
    assert min(form.drawn({"type": "integer", "minimum": 5}, chance) for _ in range(99)) >= 5


def test_a_toml_document_stays_one() -> None:
    text = b'a = 1\n[t]\nb = [1.5, inf]\n"c d" = "x\\u0007"\n[[l]]\nd = true\n'
    form, chance = Form(toml=True), random.Random(1)
    made = [form.changed(text, chance) for _ in range(200)]
    read = 0
    for one in (one for one in made if one):
        try:
            toml.parse(one.decode(), "x")
            read += 1
        except (UsageError, UnicodeDecodeError):
            pass
    assert read > 120


def test_a_command_that_breaks_a_rule_is_a_find(monkeypatch: pytest.MonkeyPatch) -> None:
    sound = (SEEDS / "inspect_bundle" / "full.json").read_bytes()
    for said, code in {"\x1b[2J": 0, "::error ::x": 0, "fine": 70}.items():
        monkeypatch.setattr(commands, "main", lambda words, said=said, code=code: print(said) or code)
        with pytest.raises(AssertionError):
            TARGETS["inspect_bundle"](sound)


def test_a_find_is_not_swallowed() -> None:
    def broken(data: bytes) -> None:
        raise IndexError

    with pytest.raises(IndexError):
        judge(broken, b"")


@pytest.mark.slow
@pytest.mark.parametrize("name", PARSERS)
def test_with_atheris(name: str, tmp_path: Path) -> None:
    if importlib.util.find_spec("atheris") is None:
        pytest.skip("atheris is not installed: pip install 'ulsam-deploy[fuzz]'")
    command = [sys.executable, "-m", "tests.fuzz", name, "-max_total_time=15"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
