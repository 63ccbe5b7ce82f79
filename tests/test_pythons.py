"""What a board needs, on every Python that is claimed: the wheel without PyTorch, ``runner.pyz``, and each engine.

Slow: each Python gets an environment of its own by pip. The bundle is made by the Python that runs the tests.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from ulsam_deploy.cli import main
from ulsam_deploy.device import toml

from .sources import ROOT, build, clone

#: Those that pyproject.toml claims.
PYTHONS = ("3.10", "3.11", "3.12", "3.13")
ENGINES = ("numpy", "onnxruntime", "openvino", "ai-edge-litert")
Answer = subprocess.CompletedProcess[str]


def interpreter(version: str) -> str:
    """A Python of ``version`` that makes environments, from PATH or pyenv; empty where there is none."""
    folders = sorted(Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")).glob(f"versions/{version}.*/bin"))
    for place in (*os.environ["PATH"].split(os.pathsep), *map(str, folders)):
        program = shutil.which(f"python{version}", path=place)
        asked = [str(program), "-c", "import ensurepip, sys; print(*sys.version_info[:2], sep='.')"]
        if program and subprocess.run(asked, capture_output=True, text=True).stdout.strip() == version:
            return program
    return ""


def test_these_are_the_pythons_that_are_claimed() -> None:
    project = toml.read(ROOT / "pyproject.toml")["project"]
    assert project["requires-python"] == ">=3.10,<3.14"
    named = [line.rpartition(" ")[2] for line in project["classifiers"] if "Python :: 3." in line]
    assert tuple(named) == PYTHONS


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build("wheel", clone(tmp_path_factory.mktemp("clone")), tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    words = f"new mobilenet_v1 --insert 9 --width 0.25 --classes 4 --input 3x32x32 -o {folder}/m.pt"
    assert main(words.split()) == 0
    assert main(f"export {folder}/m.pt --target onnx,openvino,tflite --no-cache".split()) == 0
    return folder / "m.bundle"


@pytest.fixture(params=PYTHONS)
def board(request: pytest.FixtureRequest, wheel: Path, tmp_path: Path) -> Callable[..., Answer]:
    """``board(*words)`` runs Python with these words, where the wheel, numpy and the engines are installed."""
    found = interpreter(request.param)
    if not found:
        pytest.skip(f"needs Python {request.param} with venv: apt-get install python{request.param}-venv, or pyenv")
    subprocess.run([found, "-m", "venv", str(tmp_path / "env")], check=True)
    python = str(tmp_path / "env" / "bin" / "python")
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment |= {"ULSAM_DEPLOY_CACHE": str(tmp_path / "cache"), "PYTHONWARNINGS": "error::SyntaxWarning"}

    def run(*words: object) -> Answer:
        command = [python, *map(str, words)]
        return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)

    installed = run("-m", "pip", "install", "--quiet", wheel, *ENGINES)
    assert installed.returncode == 0, installed.stderr[-3000:]
    return run


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_what_travels_to_a_board_runs_there(board: Callable[..., Answer], bundle: Path, tmp_path: Path) -> None:
    code = board("-m", "compileall", "-q", "-f", tmp_path / "env" / "lib", "-x", "site-packages/(?!ulsam_deploy/)")
    assert code.returncode == 0, code.stdout
    module, runner = ("-m", "ulsam_deploy"), ("runner.pyz",)
    for words, codes in {
        (*module, "verify", bundle): {0},
        (*module, "bench", bundle, *["--profile", "quick", "--rounds", "1", "-o", "r.json"]): {
            0,
            5,
        },  # 5: a busy machine
        (*module, "compare", "r.json", "r.json", "--allow-unknown"): {0, 5},
        (*module, "inspect", bundle): {0},
        (*module, "doctor"): {0},
        (*module, "pack", bundle, "-o", "m.zip"): {0},
        (*module, "pack", "--runner"): {0},
        (*runner, "verify", "m.zip"): {0},
        (*runner, "bench", "m.zip", "--profile", "quick", "--rounds", "1"): {0, 5},
        (*runner, "doctor"): {0},
        (*module, "export", bundle.with_name("m.pt")): {4},  # PyTorch isn't here, and this says so
    }.items():
        done = board(*words)
        assert done.returncode in codes, f"{words}: {done.stdout[-1000:]}{done.stderr[-2000:]}"
        assert "Traceback" not in done.stderr
        if "verify" in words:
            assert done.stdout.count("executed") >= 3, "an engine was left out"
