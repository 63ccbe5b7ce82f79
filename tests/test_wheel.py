"""The wheel: what a user's environment gets, and that the device-safe part works in it with numpy alone."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import venv
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from .sources import ROOT, build, clone

Answer = subprocess.CompletedProcess[str]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return clone(tmp_path_factory.mktemp("clone"))


@pytest.fixture(scope="module")
def wheel(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build("wheel", source, tmp_path_factory.mktemp("wheel"))


def test_nothing_but_the_package_lands_in_site_packages(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0] for name in names if ".dist-info/" not in name} == {"ulsam_deploy"}
    shipped = set(names)
    for wing in ("models", "exporters", "runtimes"):
        for path in (ROOT / wing).glob("*.py"):
            assert f"ulsam_deploy/{wing}/{path.name}" in shipped
    for path in (ROOT / "ulsam_deploy").rglob("*.py"):
        assert str(path.relative_to(ROOT)) in shipped, "a package is missing from pyproject.toml"
    assert "ulsam_deploy/py.typed" in shipped
    assert "ulsam_deploy/models/cluttered_digits.pt" in shipped


def test_device_safe_modules_import_with_numpy_alone(wheel: Path, tmp_path: Path) -> None:
    """A bare environment that sees this one's numpy and nothing else of it."""
    venv.create(tmp_path / "bare", with_pip=False)
    (site,) = (tmp_path / "bare" / "lib").glob("python*/site-packages")
    zipfile.ZipFile(wheel).extractall(site)
    import numpy

    for folder in Path(numpy.__file__).parents[1].glob("numpy*"):
        (site / folder.name).symlink_to(folder)
    code = """
import importlib, pkgutil, sys
import ulsam_deploy.device.bench, ulsam_deploy.device.bundle, ulsam_deploy.device.parity
import ulsam_deploy.runtimes, ulsam_deploy.device.verify
device = ulsam_deploy.device
for package in (device.bench, device.bundle, device.parity, ulsam_deploy.runtimes):
    for module in pkgutil.iter_modules(package.__path__, package.__name__ + "."):
        if not module.name.endswith(".pytorch"):
            importlib.import_module(module.name)
from ulsam_deploy.cli import main
sys.exit(main(["doctor"]))
"""
    done = subprocess.run(
        [tmp_path / "bare" / "bin" / "python", "-c", code], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "pip install 'ulsam-deploy[onnx]" in done.stdout


@pytest.fixture(scope="module")
def bare(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Answer]:
    """``bare(*words)`` runs a Python that has the wheel, and this one's packages without its editable install."""
    folder = tmp_path_factory.mktemp("installed")
    venv.create(folder / "env", with_pip=False)
    into = ["--no-deps", "--no-index", "--quiet", "--target", str(folder / "site")]
    subprocess.run([sys.executable, "-m", "pip", "install", *into, str(wheel)], check=True, capture_output=True)
    others = [
        path for path in sys.path if path.endswith("site-packages")
    ]  # on PYTHONPATH their .pth files are not read
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(folder / "site"), *others])}
    environment["ULSAM_DEPLOY_CACHE"] = str(folder / "cache")
    python = str(folder / "env" / "bin" / "python")

    def run(*words: str, cwd: Path = folder) -> Answer:
        return subprocess.run([python, *words], cwd=cwd, env=environment, capture_output=True, text=True, check=False)

    return run


IMPORTED = "import ulsam_deploy.models, ulsam_deploy.exporters, ulsam_deploy.runtimes as r; print(r.__file__)"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("-c", IMPORTED), r"{clone}/runtimes/__init__\.py"),
        (("-m", "ulsam_deploy", "doctor"), "run +pytorch +fp32 +yes"),
        (("-m", "examples.finetune", "--help"), "fine-tune"),
    ],
)
def test_a_clone_in_which_the_package_is_installed_but_not_editable_is_whole(
    words: tuple[str, ...], said: str, source: Path, bare: Callable[..., Answer]
) -> None:
    """There the source folder hides the installed package."""
    done = bare(*words, cwd=source)
    assert done.returncode == 0, done.stderr
    assert re.search(said.format(clone=re.escape(str(source))), done.stdout), done.stdout
    assert "ulsam-deploy doctor" not in done.stdout, "doctor sends people in a circle"


def test_installed_it_has_its_wings_inside_and_a_clone_lends_it_nothing_else(
    source: Path, bare: Callable[..., Answer]
) -> None:
    assert bare("-c", IMPORTED).stdout.endswith("/site/ulsam_deploy/runtimes/__init__.py\n")
    for name in ("tests", "examples", "benchmarks", "models.no_such_module"):
        done = bare("-c", f"import ulsam_deploy.{name}", cwd=source)
        assert f"No module named 'ulsam_deploy.{name}'" in done.stderr
