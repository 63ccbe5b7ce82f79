"""A backend in a package of its own, installed into an environment of its own, works without a change here."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
REFERENCE = ROOT / "models" / "cluttered_digits.pt"


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of a new environment that sees this one's packages, and the toy backend besides."""
    place = tmp_path_factory.mktemp("toy")
    venv.create(place / "env", with_pip=False)
    (site,) = (place / "env" / "lib").glob("python*/site-packages")
    folders = [path for path in sys.path if path.endswith("site-packages")]
    (site / "here.pth").write_text("".join(f"import site; site.addsitedir({path!r})\n" for path in folders))
    shutil.copytree(ROOT / "examples" / "toy_backend", place / "source")  # a build leaves files beside the source
    install = ["-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--no-build-isolation", "."]
    run(place / "env" / "bin" / "python", *install, cwd=place / "source")
    assert (site / "toy_backend").is_dir(), "it was installed somewhere else"
    return place / "env" / "bin" / "python"


def run(python: Path | str, *words: object, cwd: Path = ROOT, code: int = 0) -> str:
    done = subprocess.run([str(python), *map(str, words)], cwd=cwd, capture_output=True, text=True)
    assert done.returncode == code, done.stderr[-2000:] + done.stdout[-500:]
    return done.stdout


@pytest.mark.long
def test_it_is_exported_proven_and_opened_like_every_other(python: Path, small_model: Path, tmp_path: Path) -> None:
    words = ("export", small_model, "--target", "pt2", "--batch", "dynamic", "--json", "-o", tmp_path / "net.bundle")
    exported = run(python, "-m", "ulsam_deploy", *words, "--no-cache")
    (record,) = json.loads(exported)["manifest"]["artifacts"]
    assert (record["target"], record["evidence"]["level"], record["evidence"]["verdict"]) == ("pt2", "executed", "pass")
    assert [block["state"] for block in record["evidence"]["parity"]["blocks"]] == ["kept"]
    code = (
        "import sys, numpy, ulsam_deploy as ud\n"
        "from ulsam_deploy.cli import main\n"
        "assert main(['verify', sys.argv[1]]) == 0\n"
        "with ud.open(sys.argv[1], 'pt2') as session:\n"
        "    print(session.run(numpy.zeros((5, 3, 32, 32), 'float32')).shape)"
    )
    verified, _, shape = run(python, "-c", code, tmp_path / "net.bundle").strip().rpartition("\n")
    assert "pass" in verified
    assert shape == "(5, 4)"


def test_it_is_nowhere_in_this_project() -> None:
    """Without the package the target is unknown, and the error says which ones there are."""
    done = subprocess.run(
        [sys.executable, "-m", "ulsam_deploy", "export", str(REFERENCE), "--target", "pt2"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert "no target is called 'pt2'" in done.stderr
    assert "openvino" in done.stderr
