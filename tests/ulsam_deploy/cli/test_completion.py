"""Completion as a real bash does it: the script is loaded, and bash is asked what it would offer."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ulsam_deploy.cli.parser import COMMANDS

BASH = shutil.which("bash")
pytestmark = pytest.mark.skipif(BASH is None, reason="needs bash")


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("completion") / "ulsam.bash"
    done = subprocess.run(
        [sys.executable, "-m", "ulsam_deploy", "completion", "bash"], capture_output=True, text=True, check=True
    )
    path.write_text(done.stdout)
    return path


def offered(script: Path, *words: str, cwd: Path) -> set[str]:
    """What bash would offer for the last of ``words``."""
    ask = """
        source "$1"; shift
        COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMP_LINE="$*"; COMP_POINT=${#COMP_LINE}
        function_=$(complete -p "$1" | sed 's/.*-F \\([^ ]*\\) .*/\\1/')
        COMPREPLY=(); "$function_" "$1" "${COMP_WORDS[-1]}" "${COMP_WORDS[-2]}"
        printf '%s\\n' "${COMPREPLY[@]}"
    """
    done = subprocess.run(
        [str(BASH), "--norc", "-c", ask, "bash", str(script), *words], cwd=cwd, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return set(done.stdout.split())


def test_commands(script: Path, tmp_path: Path) -> None:
    assert set(COMMANDS) <= offered(script, "ulsam-deploy", "", cwd=tmp_path)
    assert offered(script, "ulsam-deploy", "ver", cwd=tmp_path) == {"verify"}


def test_options_of_a_command(script: Path, tmp_path: Path) -> None:
    found = offered(script, "ulsam-deploy", "export", "--", cwd=tmp_path)
    assert {"--target", "--dry-run", "--require"} <= found
    assert "--against" not in found
    assert offered(script, "ulsam-deploy", "verify", "--aga", cwd=tmp_path) == {"--against"}


def test_values(script: Path, tmp_path: Path) -> None:
    assert {"onnx", "openvino", "tflite", "trt", "all"} <= offered(
        script, "ulsam-deploy", "export", "--target", "", cwd=tmp_path
    )
    assert offered(script, "ulsam-deploy", "verify", "--layout", "NH", cwd=tmp_path) == {"NHWC"}


def test_files(script: Path, tmp_path: Path) -> None:
    (tmp_path / "model.pt").touch()
    assert offered(script, "ulsam-deploy", "export", "mod", cwd=tmp_path) == {"model.pt"}


def test_the_short_form(script: Path, tmp_path: Path) -> None:
    assert "--dry-run" in offered(script, "ulsam-export", "--dr", cwd=tmp_path)


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_get_a_script_for_both_programs(shell: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "ulsam_deploy", "completion", shell], capture_output=True, text=True, check=True
    )
    for words in ("ulsam-deploy", "ulsam-export", "dry-run"):
        assert words in done.stdout
    if shutil.which(shell):
        subprocess.run([shell, "-n"], input=done.stdout, text=True, check=True)
