"""Words that mean nothing as the others are: each is refused by name, and none is dropped."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ulsam_deploy.cli import main
from ulsam_deploy.cli.parser import build_parser
from ulsam_deploy.device.commands.combinations import CONFIG, RULES
from ulsam_deploy.device.commands.reading import DeclaredOption

#: Of bench, what --count has a use for.
COUNTED = {"bundle", "target", "junit", "markdown", "sarif", "json", "config", "device", "count", "help", "force"}
#: Of verify, what --host has a use for.
SENT = {
    "path", "target", "require", "force", "junit", "markdown", "sarif", "json", "config", "help", "host", "host_python",
    "ssh_config", "host_time_limit", "time_limit", "memory_limit", "jail",
}  # fmt: skip


def declared(command: str) -> list[DeclaredOption]:
    return build_parser([command]).commands[command].declared


@pytest.mark.parametrize("command", RULES)
def test_the_table_names_words_that_there_are(command: str) -> None:
    known = {word.dest for word in declared(command)}
    assert {name for rule in RULES[command] for name in rule.words} <= known


@pytest.mark.parametrize(
    ("command", "used", "beside"), [("bench", COUNTED, {"count", "device"}), ("verify", SENT, {"host"})]
)
def test_no_word_is_forgotten(command: str, used: set[str], beside: set[str]) -> None:
    """A word added later has to be used by these two as well, or refused."""
    for word in declared(command):
        refused = any(
            word.dest in rule.words and rule.idle({word.dest, *beside} | {"against", "calibration"} - {word.dest})
            for rule in (*RULES[command], CONFIG)
        )
        assert refused or word.dest in used, word.dest


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("verify B --probes p.npz", "--probes needs --against"),
        ("verify B --arch x", "--arch needs --against"),
        ("verify B --model a:b", "--model needs --against"),
        ("verify B --data d --against m --layout NHWC", "--layout is about one artifact"),
        ("verify A --against m --target onnx", "--target is for bundles"),
        ("verify A --against m --limit agreement=0.9", "--limit is about agreement on real inputs"),
        ("verify A --limit agreement=0.9", "--limit needs --against"),
        ("verify A --against m --key k", "--key is about who made a bundle"),
        ("verify A --against m --preprocessing imagenet", "--preprocessing needs pictures"),
        ("verify B --host h --data d", "--data is for this machine"),
        ("verify B --host h --device rpi4", "--device is an emulated board"),
        ("verify B --host h --issuer i", "--issuer is for this machine"),
        ("verify B --device rpi4 --time-limit 5", "--time-limit is for this machine"),
        ("verify B --device rpi4 --data d", "--data is for this machine"),
        ("verify B --ssh-config c", "--ssh-config needs --host"),
        ("verify B --key k --identity i --issuer u", "--identity names another signer"),
        ("verify B --identity i", "--identity needs --issuer"),
        ("bench B --device rpi4", "--device needs --count"),
        ("bench B --count", "--count needs --device"),
        ("bench B --count --device rpi4 --rounds 3", "--rounds is about time"),
        ("bench B --count --device rpi4 -o r.json", "--output is about time"),
        ("bench B --count --device rpi4 --host h", "--host is about time"),
        ("bench B --host h --beside O", "--beside is about two bundles"),
        ("bench B --beside-output r.json", "--beside-output needs --beside"),
        ("bench B --host-time-limit 3", "--host-time-limit needs --host"),
        ("doctor --host-python python4", "--host-python needs --host"),
        ("lint m.pt --preprocessing unit", "--preprocessing needs pictures"),
        ("new --list --insert 3", "--insert writes a network"),
        ("new mobilenet_v2 --list", "NAME writes a network"),
    ],
)
def test_a_word_of_the_command_line_that_means_nothing(
    words: str, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words.split()) == 2
    assert f"error: {told}" in capsys.readouterr().err


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two checkpoints, one without ULSAM and without a word about its size, and inputs, right and wrong."""
    import torch

    folder = tmp_path_factory.mktemp("room")
    for name, words in (("net", "--insert 9"), ("plain", "")):
        made = f"new mobilenet_v1 {words} --width 0.25 --classes 4 --input 3x32x32 -o {folder / name}.pt"
        assert main(made.split()) == 0
    torch.save(torch.load(folder / "plain.pt", weights_only=True)["state_dict"], folder / "plain.pt")
    rng = np.random.default_rng(0)
    np.savez(folder / "good.npz", x=rng.normal(size=(8, 3, 32, 32)).astype(np.float32))
    np.savez(folder / "nhwc.npz", x=rng.normal(size=(8, 32, 32, 3)).astype(np.float32))
    np.savez(folder / "named.npz", a=np.zeros((8, 3, 32, 32), np.float32), b=np.zeros(3))
    np.savez(folder / "one.npz", x=rng.normal(size=(1, 3, 32, 32)).astype(np.float32))
    np.savez(folder / "unlabelled.npz", x=np.zeros((8, 3, 32, 32), np.float32))
    head = f'schema = "ulsam-deploy.recipe/1"\nmodel = "{"0" * 64}"\n'
    for name, table in {
        "trt": '[targets.trt]\nprecision = "fp32"\n[targets.trt.lowerings]\n"64/4 4x4" = "take"\n',
        "nowhere": '[targets.onnx]\nprecision = "fp32"\n[targets.onnx.lowerings]\n"1/1 1x1" = "take"\n',
        "unknown": '[targets.onnx]\nprecision = "fp32"\n[targets.onnx.lowerings]\n"64/4 4x4" = "fast"\n',
        "keeps": '[targets.onnx]\nprecision = "int8"\nkeep = ["features.99"]\n',
    }.items():
        (folder / f"{name}.toml").write_text(head + table)
    (folder / "exprt.toml").write_text('[exprt]\ntarget = "onnx"\n')
    return folder


#: What an export is asked for beside ``--target onnx -o o.bundle``, and what it says of it.
REFUSED = [
    ("net.pt --input 32", "cannot take an input of 32"),
    ("net.pt --input 32x32x3", "say, for example, --input 3x32x32"),
    ("net.pt --input 1x32x32", "cannot take an input of 1x32x32"),
    ("net.pt --input 3x32x32 --input 3x32x32", "--input was given 2 times"),
    ("net.pt --calibration good.npz", "the calibration set is for int8, and fp32"),
    ("net.pt --precision fp16 --calibration good.npz", "the calibration set is for int8, and fp16"),
    ("net.pt --precision int8 --calibration nhwc.npz", "has shape 8x32x32x3"),
    ("net.pt --precision int8 --calibration named.npz", "'named.npz' holds a, b"),
    ("net.pt --precision int8 --calibration one.npz", "the calibration set has 1 samples"),
    ("net.pt --precision int8 --calibration good.npz --probes good.npz", "of the calibration set is the probe"),
    ("net.pt --precision int8 --calibration nowhere.npz", "'nowhere.npz' cannot be read"),
    ("net.pt --precision int8 --calibration good.npz --keep features.99", "--keep features.99: the network has no"),
    ("net.pt --precision int8 --calibration good.npz --keep classifer", "expected: classifier"),
    ("net.pt --precision auto --calibration good.npz --keep features.99", "--keep features.99: the network has no"),
    ("net.pt --precision auto --calibration good.npz --data unlabelled.npz", "'labels' as well"),
    ("net.pt --keep features.1", "--keep leaves modules in floating point"),
    ("net.pt --recipe keeps.toml --calibration good.npz", "--keep features.99: the network has no"),
    ("net.pt --recipe unknown.toml", "onnx has no lowering 'fast'"),
    ("net.pt --recipe nowhere.toml", "blocks of 1/1 1x1, and the network has none"),
    ("net.pt --recipe trt.toml --target trt", "trt has no lowering 'take'"),
    ("net.pt --recipe keeps.toml --precision int8", "--recipe and --precision both say"),
    ("net.pt --probes nhwc.npz", "has shape 8x32x32x3"),
    ("net.pt --device jetson-orin-jp6", "the same for every device"),
    ("net.pt --device nowhere", "no device profile is called 'nowhere'"),
    ("net.pt --dla", "--dla needs a device"),
    ("net.pt --data good.npz", "--data is for --precision auto"),
    ("net.pt --limit size=40%", "--limit is for --precision auto"),
    ("net.pt --limit agreement=0.9", "judged on real inputs, and none are given"),
    ("net.pt --limit agreement=2 --probes good.npz", "the budget's agreement is 2"),
    ("net.pt --limit deviation=0 --probes good.npz", "the budget's deviation is 0"),
    ("net.pt --model nosuch:build --input 3x32x32", "there is no Python module 'nosuch'"),
    ("net.pt --model nosuch:build --ulsam-variant pool-of-input --input 3x32x32", "--ulsam-variant is for networks"),
    ("net.pt --arch mobilenet_v9", "no network or configuration is called 'mobilenet_v9'"),
    ("plain.pt --ulsam-variant pool-of-input", "--ulsam-variant is about ULSAM"),
    ("net.pt --config exprt.toml", "did you mean 'export'?"),
    ("net.pt --junit nowhere/x.xml", "the folder of 'nowhere/x.xml' does not exist"),
    ("nowhere.pt", "cannot read 'nowhere.pt'"),
]


@pytest.mark.parametrize(("words", "told"), REFUSED)
def test_a_dry_run_refuses_what_the_run_refuses_in_the_same_words(
    words: str, told: str, room: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(room)
    before = sorted(room.iterdir())
    whole = ["export", *words.split(), "-o", "o.bundle", "--no-cache"]
    whole += [] if "--target" in words else ["--target", "onnx"]
    errors = []
    for more in ([], ["--dry-run"]):
        assert main([*whole, *more]) == 2
        errors.append(capsys.readouterr().err.partition("error: ")[2])
    assert told in errors[0]
    assert errors[0] == errors[1]
    assert sorted(room.iterdir()) == before


def test_a_target_named_beside_all_is_required(
    room: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(room)
    words = ["export", "net.pt", "--batch", "dynamic", "--dry-run"]
    assert main([*words, "--target", "all"]) == 0
    assert main([*words, "--target", "all,tflite"]) == 4
    capsys.readouterr()


def test_the_size_that_is_assumed_is_said_with_the_reason(
    room: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(room)
    note = "an input of 3x224x224 was assumed, the default of mobilenet_v1: 'plain.pt' does not say"
    assert main(["export", "plain.pt", "--target", "onnx", "--dry-run"]) == 0
    assert f"note: {note}" in capsys.readouterr().out
    assert main(["export", "plain.pt", "--target", "onnx", "--dry-run", "--input", "3x32x32"]) == 0
    assert "assumed" not in capsys.readouterr().out
    assert main(["export", "net.pt", "--target", "onnx", "--dry-run"]) == 0
    assert "assumed" not in capsys.readouterr().out
