"""Slips of the keyboard: every word that names a file or folder, given what it cannot be. Words, and never a defect."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from ulsam_deploy.cli import main
from ulsam_deploy.cli.parser import COMMANDS, build_parser
from ulsam_deploy.device.commands.reading import DeclaredOption
from ulsam_deploy.device.errors import Exit

from ..handmade import make_bundle

#: What every command is given besides the word that is tried.
WHOLE = {
    "export": ["small.pt", "--target", "onnx", "--dry-run"],
    "verify": ["dense.bundle", "--target", "trt"],  # which it has not: what is wrong besides is said before that
    "bench": ["dense.bundle", "--targets", "trt"],
    "compare": ["old.json", "new.json"],
    "lint": ["small.pt"],
    "inspect": ["dense.bundle"],
    "report": ["dense.bundle"],
    "new": ["nobody"],
    "pack": ["dense.bundle"],
    "sign": ["dense.bundle", "--key", "none.pem"],
    "build": ["dense.bundle/trt"],
    "sweep": ["s.toml"],
}
ODD = (".", "/", "..", "missing/deeper/x", "note.txt", "note.txt/x")


def declared(command: str) -> list[DeclaredOption]:
    return build_parser([command]).commands[command].declared


def places() -> Iterator[tuple[str, str]]:
    """Every command, and a word of it that names a file or a folder."""
    for command in COMMANDS:
        for word in declared(command):
            if word.is_path:
                yield command, word.option or word.dest


def typed(command: str, word: str, value: str) -> list[str]:
    whole = WHOLE.get(command, [])
    if word.startswith("--"):
        return [command, *whole, word, value]
    before = [one.dest for one in declared(command) if not one.option].index(word)
    return [command, *whole[:before], value, *whole[before + 1 :]]


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("slips") / "room"
    folder.mkdir()
    make_bundle(folder / "dense.bundle", targets=("onnx",))
    words = f"new mobilenet_v1 --insert 9 --width 0.25 --classes 4 --input 3x32x32 -o {folder / 'small.pt'}"
    assert main(words.split()) == 0
    return folder


def code_of(words: list[str]) -> int:
    try:
        return main(words)
    except SystemExit as stopped:  # argparse's own way to say wrong usage
        return int(stopped.code or 0)


@pytest.mark.parametrize(("command", "word"), list(places()))
def test_a_place_that_is_none_has_words(
    command: str, word: str, room: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(room)
    for value in ODD:
        (room / "note.txt").write_text("nothing that anybody reads")
        code = code_of(typed(command, word, value))
        said = capsys.readouterr().err
        assert code not in (Exit.DEFECT, Exit.CHECK_FAILED), said
        assert "Traceback" not in said


@pytest.mark.parametrize(
    "words",
    [
        "export .", "export /", "export ..", "build .", "build /", "pack dense.bundle -o .", "pack dense.bundle -o /",
        "pack --runner -o .", "export small.pt --target onnx -o .", "export small.pt --target onnx -o ..",
        "new mobilenet_v2 --input 64", "new mobilenet_v2 --input 1x64x64", "new mobilenet_v2 --input 3x4096x4096",
        "new mobilenet_v2 --width 0.35 --classes 2 --input 3x32x32 -o .", "new mobilenet_v2 --subspaces 2",
        "new mobilenet_v2 --seed -1", f"new mobilenet_v2 --seed {1 << 70}", "report dense.bundle -o .",
        "verify dense.bundle --junit .", "export small.pt --save-config .",
        "inspect dense.bundle --arch mobilenet_v1",
    ],
)  # fmt: skip
def test_slips_are_wrong_usage(
    words: str, room: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(room)
    before = sorted(path.name for path in room.iterdir())
    assert code_of(words.split()) == 2
    said = capsys.readouterr().err
    assert "expected" in said or "do this" in said
    assert sorted(path.name for path in room.iterdir()) == before


@pytest.mark.parametrize(
    ("words", "where"),
    [
        (["export", ""], "after 'export'"),
        (["export", "small.pt", "--device", ""], "after '--device'"),
        (["export", "small.pt", "--output="], "--output"),
        (["verify", "dense.bundle", "--target", ""], "after '--target'"),
        ([""], "the first one"),
    ],
)
def test_an_unset_variable_is_said(words: list[str], where: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 2
    assert f"an argument is empty: {where}" in capsys.readouterr().err
