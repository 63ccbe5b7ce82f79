"""What a user is told to type works when it is pasted."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from ulsam_deploy.cli import main
from ulsam_deploy.device.invocation import typed

ODD = ["a b", "it's", "$HOME", "a;b", "ünï", "-x", "*"]


@pytest.mark.parametrize("name", ODD)
def test_a_shell_reads_back_what_was_said(name: str) -> None:
    words = shlex.split(typed("ulsam-deploy", "verify", Path(name), "--target", name))
    assert words[:2] == ["ulsam-deploy", "verify"]
    assert Path(words[2]) == Path(name)
    assert not words[2].startswith("-")
    assert words[4] == name


@pytest.mark.parametrize("name", ODD)
def test_new_and_pack_say_what_can_be_pasted(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["new", "mobilenet_v1", "--width", "0.25", "--classes", "4", "--input", "3x32x32", f"-o{name}.pt"]) == 0
    assert main(["pack", "--runner", f"-o{name}.pyz"]) == 0
    commands = re.findall(r"^Next: +(.*)$", capsys.readouterr().out, re.MULTILINE)
    export, doctor = (shlex.split(command) for command in commands)
    assert Path(export[1]).is_file()
    assert doctor[0] == "python3"
    assert Path(doctor[1]).is_file()


def test_the_source_tells_no_path_unquoted() -> None:
    """A command in a string of its own, with something filled into it, is one that nobody quoted."""
    source = Path(__file__).parents[3] / "ulsam_deploy"
    told = re.compile(r"""f"[^"]*(?:ulsam-deploy|ulsam-export) [a-z]+[^"]*\{(?!typed)""")
    found = [f"{path.name}: {hit}" for path in source.rglob("*.py") for hit in told.findall(path.read_text())]
    assert [hit for hit in found if "{__version__}" not in hit] == []
