"""The wheel: what a user's environment gets, and that the device-safe part works in it with numpy alone."""

from __future__ import annotations

import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("wheel")
    source = tmp_path_factory.mktemp("source")
    files = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True
    ).stdout.split("\n")
    for name in filter(None, files):
        if (ROOT / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes((ROOT / name).read_bytes())
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), str(source)]
    done = subprocess.run(build, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    (path,) = out.glob("*.whl")
    return path


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
import ulsam_deploy.bench, ulsam_deploy.bundle, ulsam_deploy.parity, ulsam_deploy.runtimes, ulsam_deploy.evidence
for package in (ulsam_deploy.bench, ulsam_deploy.bundle, ulsam_deploy.parity, ulsam_deploy.runtimes):
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
    assert "pip install 'ulsam-deploy[onnx]'" in done.stdout
