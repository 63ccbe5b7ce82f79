"""This project's source as somebody else has it: a clone without what git ignores, and what is built from one."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def clone(folder: Path) -> Path:
    """Copy the source to ``folder``, as git would. Git itself is not needed: an unpacked sdist has none."""
    ignored = [line.strip("/") for line in (ROOT / ".gitignore").read_text().split()]
    shutil.copytree(ROOT, folder, ignore=shutil.ignore_patterns(".git", *ignored), dirs_exist_ok=True)
    return folder


def build(kind: str, source: Path, out: Path) -> Path:
    """The ``wheel`` or ``sdist`` of ``source``, built without the network; building leaves files in ``source``."""
    command = [sys.executable, "-m", "build", f"--{kind}", "--no-isolation", "--outdir", str(out), str(source)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    (path,) = out.iterdir()
    return path
