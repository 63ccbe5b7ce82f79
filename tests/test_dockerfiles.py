"""The Dockerfiles: every RUN line is executed in a bare root of the image's distribution, as no builder is at hand.

The root is made by ``mmdebstrap``, which needs root's rights and the network; without them the tests that run skip.
"""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

from ulsam_deploy.boards.emulate.tools import CONTAINER

from . import roots

ROOT = Path(__file__).parents[1]
FILES = ("Dockerfile", "Dockerfile.board")
#: The image that they start from, and the root that stands for it.
BASE, IMAGE = "debian:bookworm-slim", "debian:12"


def instructions(name: str) -> list[tuple[str, str]]:
    """``(instruction, rest)`` of each line, without comments; a backslash joins lines."""
    text = re.sub(r"\\\n", "", re.sub(r"^#.*\n", "", (ROOT / name).read_text(), flags=re.MULTILINE))
    return [(first, rest.strip()) for first, _, rest in (line.partition(" ") for line in text.splitlines() if line)]


@pytest.mark.parametrize("name", FILES)
def test_only_what_the_test_below_understands(name: str) -> None:
    found = instructions(name)
    assert found[0] == ("FROM", BASE)
    assert {first for first, _ in found} <= {"FROM", "ARG", "RUN", "COPY", "ENV", "WORKDIR", "ENTRYPOINT"}
    assert found[-1] == ("ENTRYPOINT", '["ulsam-deploy"]')
    assert [rest for first, rest in found if first == "COPY"] == [". /opt/src"]


def test_the_container_line_of_messages_is_that_of_the_file() -> None:
    text = (ROOT / "Dockerfile").read_text()
    assert f"{CONTAINER} export" in text
    assert "--tag ulsam-deploy " in text


@pytest.mark.slow
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("name", FILES)
def test_every_run_line_in_a_bare_root(name: str, tmp_path: Path) -> None:
    if sentence := roots.obstacle():
        pytest.skip(sentence)
    root = roots.make(IMAGE, tmp_path)
    try:
        for first, rest in instructions(name):
            if first == "COPY":
                roots.copy_tree(root.path / "opt/src")
            elif first in ("ARG", "ENV"):
                key, _, value = rest.partition("=")
                root.variables[key] = value.strip('"')
            elif first == "RUN":
                done = root.run(["sh", "-c", rest])
                assert done.returncode == 0, f"{rest}\n{done.stdout[-4000:]}"
            elif first == "ENTRYPOINT":
                done = root.run([*json.loads(rest), "verify", "--help"])
                assert done.returncode == 0, done.stdout
    finally:
        shutil.rmtree(tmp_path, ignore_errors=True)  # several gigabytes
