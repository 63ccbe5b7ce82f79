"""Slips of the keyboard: a line that names the word and the one that was meant, a hint, and exit 2."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from ulsam_deploy.cli import main
from ulsam_deploy.cli.parser import build_parser
from ulsam_deploy.device.commands.parser import COMMANDS, parser_of
from ulsam_deploy.device.errors import UsageError

Capture = pytest.CaptureFixture[str]

SLIPS = {
    "command": ("exprt {net}", "there is no command 'exprt'; did you mean 'export'?"),
    "option": ("export {net} --taget onnx", "there is no option '--taget'; did you mean '--target'?"),
    "option with a value": ("verify {net}.b --requrie=executed", "there is no option '--requrie'; did you mean"),
    "option before what is missing": ("export --dry-rnu", "there is no option '--dry-rnu'; did you mean '--dry-run'?"),
    "short option": ("export {net} -x", "there is no option '-x'"),
    "choice of an option": (
        "bench {bundle} --profile defalt",
        "there is no --profile 'defalt'; did you mean 'd",
    ),
    "target": ("export {net} --target opnvino", "no target is called 'opnvino'; did you mean 'openvino'?"),
    "target of a bundle": ("verify {bundle} --target onx", "no artifact for 'onx'; did you mean 'onnx'?"),
    "target to time": ("bench {bundle} --target onx", "no artifact for 'onx'; did you mean 'onnx'?"),
    "precision": ("export {net} --precision itn8", "--precision: no precision is called 'itn8'; did you mean 'int8'?"),
    "precision of a file": ("verify --against {net} x.onnx --precision fp61", "called 'fp61'; did you mean 'fp16'?"),
    "network": ("export {net} --arch mobilnet_v2", "called 'mobilnet_v2'; did you mean 'mobilenet_v2'?"),
    "new network": ("new mobilenetv2", "called 'mobilenetv2'; did you mean 'mobilenet_v2'?"),
    "variant": ("new mobilenet_v2 --insert 6 --ulsam-variant pool-of-inptu", "; did you mean '"),
    "device": ("export {net} --device rpi44", "no device profile is called 'rpi44'; did you mean 'rpi4'?"),
    "evidence": (
        "export {net} --require excuted",
        "unknown evidence level 'excuted'; did you mean 'executed'?",
    ),
    "limit": ("export {net} --precision auto --limit drp=1", "the budget names 'drp'; did you mean 'drop'?"),
    "preprocessing": ("export {net} --preprocessing imagnet", "did you mean 'imagenet'?"),
    "word too many": ("inspect {net} again", "'again' is one argument too many"),
    "nothing at all": ("", "are required: COMMAND"),
    "no model": ("export --dry-run", "are required: MODEL"),
    "option before the command": ("--target onnx export", "there is no option '--target'"),
}


@pytest.mark.parametrize("slip", SLIPS)
def test_a_slip_is_told_in_a_line_and_a_hint(folder: Path, slip: str, capsys: Capture) -> None:
    words, told = SLIPS[slip]
    filled = [word.format(net=folder / "net.pt", bundle=folder / "net.bundle") for word in words.split()]
    assert main(filled) == 2
    out, error = capsys.readouterr()
    assert out == ""
    first, *rest = error.splitlines()
    assert told in first
    assert len(rest) <= 2, "a hint, and not every word that there is"
    assert all(line.startswith(("  expected: ", "  do this:  ")) for line in rest)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('[export]\ntargte = "onnx"\n', "unknown key 'targte'; did you mean 'target'?"),
        ('[export]\ntarget = "onx"\n', "no target is called 'onx'; did you mean 'onnx'?"),
    ],
)
def test_a_slip_in_a_file(folder: Path, tmp_path: Path, text: str, told: str, capsys: Capture) -> None:
    (tmp_path / "c.toml").write_text(text)
    assert main(["export", str(folder / "net.pt"), "--dry-run", "--config", str(tmp_path / "c.toml")]) == 2
    assert told in capsys.readouterr().err


def test_a_slip_in_the_name_of_an_array(tmp_path: Path) -> None:
    from ulsam_deploy.device.errors import UsageError
    from ulsam_deploy.inputs import probes

    np.savez(tmp_path / "p.npz", image=np.zeros((1, 2), np.float32), mesk=np.zeros((1, 2), np.float32))
    with pytest.raises(UsageError, match=r"holds image, mesk; did you mean 'mask'\?"):
        probes.read(tmp_path / "p.npz", {"image": (2,), "mask": (2,)})


@pytest.mark.parametrize("board", [False, True])
def test_every_option_in_either_number(board: bool) -> None:
    """What takes several values, or is called otherwise elsewhere; and both are one option, in whatever order."""
    parser = parser_of(COMMANDS, ("verify", "bench")) if board else build_parser(("export", "verify", "bench"))
    for command in ("verify", "bench") if board else ("export", "verify", "bench"):
        device, devices = ([], []) if board else (["--device", "rpi4"], ["--devices", "rpi4"])
        one = parser.parse_args([command, "x", "--target", "onnx", "--targets=trt", *device])
        other = parser.parse_args([command, "x", "--targets", "onnx", "--target=trt", *devices])
        assert one == other
        assert one.target == ["onnx", "trt"]


def test_a_value_is_not_taken_for_an_option() -> None:
    parser = build_parser(("new", "export"))
    with pytest.raises(UsageError, match="'-5' is not a seed"):
        parser.parse_args(["new", "n", "--seed", "-5"])
    assert parser.parse_args(["export", "--", "--model.pt"]).model == Path("--model.pt")
    assert parser.parse_args(["export", "m.pt", "-oout"]).output == Path("out")


@pytest.mark.parametrize(
    "words", ["--target ort", "--targets ONNX", "--target onnxruntime,onnx --precisions float32", "--precision FP32"]
)
def test_what_people_type_is_what_they_get(folder: Path, words: str, capsys: Capture) -> None:
    assert main(["export", str(folder / "net.pt"), "--target", "onnx", "--dry-run", *words.split()]) == 0
    shown = [line.split()[0] for line in capsys.readouterr().out.splitlines() if " fp32 " in line]
    assert shown == ["onnx"]


def test_the_same_in_a_file_of_words(folder: Path, tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "c.toml").write_text('[export]\ntargets = ["ORT", "onnx"]\nprecisions = "single"\n')
    assert main(["export", str(folder / "net.pt"), "--dry-run", "--config", str(tmp_path / "c.toml")]) == 0
    assert " fp32 " in capsys.readouterr().out
    assert (
        main(["export", str(folder / "net.pt"), "--targets=trt", "--dry-run", "--config", str(tmp_path / "c.toml")])
        == 0
    )
    assert "\nonnx " not in capsys.readouterr().out, "the command line wins, whichever way it is spelled"


def test_a_bundles_target_by_its_engine(folder: Path, capsys: Capture) -> None:
    assert main(["verify", str(folder / "net.bundle"), "--targets", "ONNXRuntime"]) == 0
    assert "onnx/model.onnx" in capsys.readouterr().out


@pytest.mark.parametrize("words", ["inspect X", "export a.pt --weights X", "verify a.bundle --junit X", "compare X X"])
def test_bytes_that_are_no_text_are_refused_whatever_they_mean(words: str, capsys: Capture) -> None:
    assert main([word.replace("X", os.fsdecode(b"n\xff.pt")) for word in words.split()]) == 2
    said = capsys.readouterr().err
    assert r"error: 'n\udcff.pt' is no text in UTF-8" in said
    assert "rename the file" in said
