"""The hostile corpus: a fast part of it, all of it when there is time, and that the watcher would see harm."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ulsam_deploy.device.errors import UnavailableError

pytest.importorskip("torch")
pytest.importorskip("onnx")

from . import jailed

ROOT = Path(__file__).parents[2]
HARM = ("crashes", "files escaped", "code run", "wrong exit code", "no sentence")


def loose(*words: str) -> tuple[int, dict[str, Any]]:
    """The command in a process of its own, because it forks."""
    command = [sys.executable, "-m", "tests.hostile", "--json", *words]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.stdout, done.stderr[-2000:]
    return done.returncode, json.loads(done.stdout)


def test_a_part_of_every_kind_is_refused_in_words() -> None:
    code, found = loose("--every", "40")
    assert found["problems"] == {}
    assert {name: found[name] for name in HARM} == dict.fromkeys(HARM, 0)
    assert found["inputs tried"] >= 25
    ends = ("refused", "called broken", "failed a check", "misused", "not available", "harmless")
    assert sum(found[name] for name in ends) == found["inputs tried"]
    assert code == 0


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_the_whole_corpus_is_refused_in_words() -> None:
    code, found = loose()
    assert (code, found["problems"]) == (0, {})
    assert found["inputs tried"] > 700
    assert found["refused"] > 500


@pytest.mark.long
@pytest.mark.parametrize("target", jailed.TARGETS)
def test_an_engine_in_the_jail_can_only_read(target: str, tmp_path: Path) -> None:
    (tmp_path / "off").mkdir()
    free = jailed.asked(tmp_path / "off", target, "off")
    assert set(free.possible) == set(free.attempted)
    (tmp_path / "on").mkdir()
    try:
        found = jailed.asked(tmp_path / "on", target, "require")
    except UnavailableError as error:
        pytest.skip(str(error))
    assert found.ran
    assert set(found.possible) == jailed.REMAINS
    assert sorted(path.name for path in (tmp_path / "on" / "outside").iterdir()) == ["gone", "there"]


def test_harm_would_be_seen() -> None:
    code, found = loose("--planted")
    assert code == 1
    assert min(found[name] for name in HARM) >= 1
    said = {name.removeprefix("planted: "): " ".join(problems) for name, problems in found["problems"].items()}
    assert "ran: started os.system" in said["trusted os.system"]
    assert "changed cwd/marker-of-code-that-ran" in said["trusted os.system"]
    assert "wrote 'marker-of-code-that-ran'" in said["trusted exec"]
    assert "ended with 0" in said["a success"]
    assert "crashed" in said["a crash"]
    assert "no sentence" in said["no words"]
