"""Every parser on its seeds (sound files and earlier finds) and on what chance makes of them; longer with atheris."""

from __future__ import annotations

import importlib.util
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("onnx")

from .parsers import PARSERS, SEEDS, judge

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
    assert all(accepted) or name == "results", "a seed that is refused leads nowhere"
    chance, refused = random.Random(name), 0
    for path in seeds:
        judge(PARSERS[name], path.read_bytes())
        for _ in range(60):
            refused += not judge(PARSERS[name], spoiled(path.read_bytes(), chance))
    assert refused > 10


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
