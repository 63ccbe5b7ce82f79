"""Commands that write, ended at random moments: a part of the table of docs/security.md; harm would be seen."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")
pytest.importorskip("onnxruntime")
ROOT = Path(__file__).parents[2]


def ended(*words: str) -> tuple[int, dict[str, Any]]:
    """The table in a process of its own, because it forks."""
    command = [sys.executable, "-m", "tests.hostile.kills", "--json", *words]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.stdout, done.stderr[-2000:]
    return done.returncode, json.loads(done.stdout)


@pytest.mark.long
def test_what_is_written_is_whole_or_not_there() -> None:
    code, found = ended("--moments", "0.2", "--only", "pack", "--only", "compare", "--only", "verify")
    assert [one["problems"] for one in found.values()] == [[]] * 4
    assert sum(one["killed"] for one in found.values()) >= 4
    assert code == 0


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_every_command_that_writes() -> None:
    code, found = ended()
    assert {name: one["problems"] for name, one in found.items() if one["problems"]} == {}
    assert sum(one["runs"] for one in found.values()) >= 200
    assert code == 0


@pytest.mark.long
def test_a_half_written_file_would_be_seen() -> None:
    code, found = ended("--moments", "0.3", "--only", "compare", "--planted")
    (one,) = found.values()
    assert any("half of made" in problem for problem in one["problems"])
    assert code == 1
