"""The source distribution: the whole clone, so that it builds, installs, and its own tests pass in it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import venv
from pathlib import Path

import pytest

from .sources import build, clone

#: What building adds to the files of the clone.
MADE = {"PKG-INFO", "setup.cfg"}
#: Fast tests that read what lies outside the package: every module, every page, the examples, and each kind of data.
TESTS = (
    *("tests/test_house.py", "tests/test_docs.py", "tests/test_needs.py", "tests/fuzz/test_seeds.py"),
    *("tests/ulsam_deploy/device/bundle", "tests/ulsam_deploy/gate", "tests/ulsam_deploy/device/test_profiles.py"),
    *(
        "tests/ulsam_deploy/device/test_errors.py",
        "tests/ulsam_deploy/device/test_plugins.py",
        "tests/models/test_paper.py",
    ),
)


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    source = clone(tmp_path_factory.mktemp("built"))  # building leaves files
    archive = build("sdist", source, tmp_path_factory.mktemp("sdist"))
    folder = tmp_path_factory.mktemp("unpacked")
    with tarfile.open(archive) as packed:
        packed.extractall(folder, filter="data")
    (root,) = folder.iterdir()
    return root


def files(root: Path) -> set[str]:
    return {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}


def test_it_holds_every_file_of_the_clone_and_nothing_else(unpacked: Path, tmp_path: Path) -> None:
    expected = files(clone(tmp_path / "clone"))
    found = {name for name in files(unpacked) - MADE if ".egg-info/" not in name}
    assert found == expected, (sorted(expected - found)[:9], sorted(found - expected)[:9])
    assert len(found) > 500


@pytest.mark.slow
def test_it_builds_installs_and_its_own_tests_pass(unpacked: Path, tmp_path: Path) -> None:
    shutil.copytree(unpacked, tmp_path / "again")  # building leaves files
    wheel = build("wheel", tmp_path / "again", tmp_path / "out")
    venv.create(tmp_path / "env", with_pip=False)
    into = ["--no-deps", "--no-index", "--quiet", "--target", str(tmp_path / "site")]
    subprocess.run([sys.executable, "-m", "pip", "install", *into, str(wheel)], check=True, capture_output=True)
    # On PYTHONPATH, .pth files are not read, and so no editable install.
    others = [path for path in sys.path if path.endswith("site-packages")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path / "site"), *others])}
    command = [str(tmp_path / "env" / "bin" / "python"), "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    marks = ["-m", "not slow and not long and not arm and not gpu and not browser"]
    done = subprocess.run([*command, *marks, *TESTS], cwd=unpacked, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-4000:]
    where = [*command[:1], "-c", "import ulsam_deploy.models as m; print(m.__file__)"]
    said = subprocess.run(where, cwd=unpacked, env=environment, capture_output=True, text=True, check=True).stdout
    assert said.strip() == str(unpacked / "models" / "__init__.py"), "the tests were about another copy"
