"""Killed, interrupted or out of space at any point of writing: the old bundle is whole, or the new one is."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
SCENES = ["new", "replace", "two-steps", "pack", "unpack", "cache"]


def walk(mode: str, scene: str, folder: Path, stride: int) -> int:
    """How many points were visited; fails with the walk's own words when one of them left anything half done."""
    command = [sys.executable, "crash_walk.py", mode, scene, str(folder), str(stride)]
    done = subprocess.run(command, cwd=HERE, capture_output=True, text=True, timeout=1800, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return int(done.stdout)


@pytest.mark.parametrize("scene", SCENES)
def test_out_of_space_at_any_operation(tmp_path: Path, scene: str) -> None:
    assert walk("full", scene, tmp_path, 3) >= 2


@pytest.mark.parametrize("scene", SCENES)
def test_killed_anywhere(tmp_path: Path, scene: str) -> None:
    assert walk("kill", scene, tmp_path, 23) >= 5


@pytest.mark.parametrize("scene", ["replace", "two-steps", "pack"])
def test_interrupted_anywhere(tmp_path: Path, scene: str) -> None:
    assert walk("interrupt", scene, tmp_path, 29) >= 5


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("scene", SCENES)
@pytest.mark.parametrize("mode", ["kill", "interrupt", "full", "quota"])
def test_every_single_point(tmp_path: Path, mode: str, scene: str) -> None:
    assert walk(mode, scene, tmp_path, 1) >= (5 if mode == "full" else 40)
