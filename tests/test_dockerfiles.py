"""The Dockerfiles: every RUN line is executed in a bare root of the image's distribution, as no builder is at hand.

The root is made by ``debootstrap``, which needs root and the network; without them the tests that run skip.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from ulsam_deploy.boards.emulate.tools import CONTAINER

from . import needs

ROOT = Path(__file__).parents[1]
FILES = ("Dockerfile", "Dockerfile.board")
BASE = "debian:bookworm-slim"


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


def pip_uses() -> set[str]:
    """Files and folders of this machine that pip's settings name, so that they hold inside as well."""
    said = subprocess.run(["python3", "-m", "pip", "config", "list"], capture_output=True, text=True).stdout
    paths = re.findall(r"(?:file://)?(/[\w./-]+)", said)
    folders = {"/".join(path.split("/")[:3]) for path in paths if Path(path).is_dir() or path.startswith("/opt/")}
    return folders | {path for path in paths if Path(path).is_file()}


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", FILES)
def test_every_run_line_in_a_bare_root(name: str, tmp_path: Path) -> None:
    if lacking := [word for word in ("debootstrap", "unshare", "chroot") if not needs.where(word)]:
        pytest.skip(f"a bare root needs {', '.join(lacking)}")
    if os.geteuid() != 0:
        pytest.skip("a bare root needs the rights of root")
    root = tmp_path / "root"
    release = BASE.partition(":")[2].removesuffix("-slim")
    subprocess.run(["debootstrap", "--variant=minbase", release, root], check=True, stdout=subprocess.DEVNULL)
    shutil.copy("/etc/resolv.conf", root / "etc/resolv.conf")
    mounted = sorted({"/proc", "/dev", *pip_uses()})
    variables = {"PATH": "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin", "DEBIAN_FRONTEND": "noninteractive"}
    variables |= {key: value for key, value in os.environ.items() if key.startswith("PIP_")}
    for first, rest in instructions(name):
        if first == "COPY":
            copied = root / "opt/src"
            ignored = shutil.ignore_patterns(*(ROOT / ".dockerignore").read_text().split(), "__pycache__")
            shutil.copytree(ROOT, copied, ignore=ignored)
        elif first in ("ARG", "ENV"):
            key, _, value = rest.partition("=")
            variables[key] = value.strip('"')
        elif first == "RUN":
            inside = ["unshare", "--mount", "sh", "-e", "-c"]
            # A file, such as certificates, replaces that of the image's packages once they are installed.
            there = [path for path in mounted if Path(path).is_dir() or (root / path[1:]).is_file()]
            for path in there:
                if Path(path).is_dir():
                    (root / path[1:]).mkdir(parents=True, exist_ok=True)
            places = "\n".join(f"mount --bind {path} {root}{path}" for path in there)
            script = f'{places}\nexec {needs.where("chroot")} {root} sh -c "$RUN"'
            done = subprocess.run([*inside, script], env={**variables, "RUN": rest}, capture_output=True, text=True)
            assert done.returncode == 0, f"{rest}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
        elif first == "ENTRYPOINT":
            entry = [str(needs.where("chroot")), str(root), *json.loads(rest), "--version"]
            said = subprocess.run(entry, env=variables, capture_output=True)
            assert said.returncode == 0
