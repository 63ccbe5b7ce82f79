"""Words from a file: the same as typed, the command line wins, and nothing unknown passes."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from ulsam_deploy.cli import main
from ulsam_deploy.cli.parser import build_parser
from ulsam_deploy.device.commands import config
from ulsam_deploy.device.errors import RefusedError, UsageError


@pytest.fixture
def write(tmp_path: Path) -> Path:
    return tmp_path / "ulsam.toml"


def read(*words: str) -> argparse.Namespace:
    return build_parser().parse_args(config.merged(build_parser(), words))


def asked(arguments: argparse.Namespace) -> dict[str, object]:
    """What was asked, but not where it was written."""
    return {name: value for name, value in vars(arguments).items() if name not in ("config", "save_config")}


def test_a_file_says_what_words_say(write: Path) -> None:
    write.write_text(
        '[export]\nMODEL = "net.pt"\ntarget = ["onnx", "tflite"]\nbatch = "dynamic"\ninput = "3x32x32"\n'
        'require = "executed"\nno-cache = true\ndla = false\noutput = "out/net.bundle"\n'
    )
    typed = build_parser().parse_args(
        [
            *("export", str(write.parent / "net.pt"), "--target", "onnx", "--target", "tflite", "--batch", "dynamic"),
            *("--input", "3x32x32", "--require", "executed", "--no-cache", "-o", str(write.parent / "out/net.bundle")),
        ]
    )
    assert asked(read("export", "--config", str(write))) == asked(typed)


def test_the_command_line_wins(write: Path) -> None:
    write.write_text('[export]\nMODEL = "net.pt"\ntarget = ["onnx", "tflite"]\nbatch = 4\noutput = "a.bundle"\n')
    arguments = read("export", "other.pt", "--target=openvino", "-ob.bundle", "--config", str(write))
    assert arguments.model == Path("other.pt")
    assert arguments.target == ["openvino"]
    assert arguments.output == Path("b.bundle")
    assert arguments.batch == 4


def test_a_file_without_the_commands_table_adds_nothing(write: Path) -> None:
    write.write_text("[verify]\njson = true\n")
    assert asked(read("doctor", "--config", str(write))) == asked(build_parser().parse_args(["doctor"]))


def test_a_positional_with_two_names_and_a_value_like_an_option(write: Path) -> None:
    write.write_text('[verify]\nBUNDLE = "x.bundle"\ntarget = ["-odd"]\n')
    arguments = read("verify", "--config", str(write))
    assert arguments.path == write.parent / "x.bundle"
    assert arguments.target == ["-odd"]


def test_a_positional_that_takes_several(write: Path) -> None:
    write.write_text('[report]\nFILE = ["old.bundle", "new.bundle"]\n')
    assert read("report", "--config", str(write)).files == [write.parent / "old.bundle", write.parent / "new.bundle"]
    assert read("report", "x.bundle", "--config", str(write)).files == [Path("x.bundle")]


@pytest.mark.parametrize(
    ("text", "found", "todo"),
    [
        ('[export]\ntargte = "onnx"\n', "unknown key 'targte'", "did you mean 'target'?"),
        ("[export]\nconfig = 'x'\n", "unknown key 'config'", ""),
        ("[export]\nno-cache = 'yes'\n", "'yes'", ""),
        ("[export]\nbatch = [1, 2]\n", "[1, 2]", ""),
        ("[export]\nbatch = true\n", "True", ""),
        ('[export]\ntarget = "onnx"\ntargets = "trt"\n', "'target' and 'targets', which are the same", ""),
        ('[export]\nprecision = "itn8"\n', "--precision: no precision is called 'itn8'", "did you mean 'int8'?"),
        ("export = 3\n", "not a table", ""),
        ("[export\n", "isn't valid TOML", ""),
    ],
)
def test_what_a_file_may_not_say(write: Path, text: str, found: str, todo: str) -> None:
    write.write_text(text)
    with pytest.raises(UsageError) as caught:
        read("export", "m.pt", "--config", str(write))
    assert found in caught.value.found
    assert todo in str(caught.value)


#: What a stranger's file could say, and what the command line would be if it were believed.
TRUST = {
    "export": ("trust-pickle = true", "model = 'evil:build'", "allow-global = ['os.system']", "junit = '../x.xml'"),
    "verify": (
        *(
            "trust-native = true",
            "key = 'k.pem'",
            "identity = 'x'",
            "issuer = 'y'",
            "host = ['h']",
            "junit = 'there.xml'",
        ),
        *("host-python = 'sh -c x'", "ssh-config = 'x'", "reproduce = 'there.xml'", "markdown = 'link/new.md'"),
        *("sarif = 'there.xml'", "sarif = '../x.sarif'"),
    ),
    "sweep": ("scheduler = 'tcp://x:1'", "output = 's3://evil/x'"),
    "sign": ("online = true",),
    "cache": ("clear = true",),
    "bench": ("output = '/dev/null'", "beside-output = 'there.xml'"),
}


#: Options that name what is only read. Any other path in a stranger's file may say where something is written.
READ = {
    *("model", "path", "bundle", "against", "baseline", "current", "beside", "files", "paths", "kit", "sweep"),
    *("budget", "calibration", "data", "inputs", "probes", "recipe"),
}


def test_every_path_that_is_written_is_known_as_such() -> None:
    paths = {word.dest for command in build_parser().commands.values() for word in command.declared if word.is_path}
    assert paths - READ - config._WRITTEN - config._TRUST - config._OWN == set()
    assert not READ & config._WRITTEN


@pytest.mark.parametrize(("command", "text"), [(name, text) for name, texts in TRUST.items() for text in texts])
def test_trust_is_said_on_the_command_line(write: Path, command: str, text: str) -> None:
    (write.parent / "there.xml").write_text("")
    (write.parent / "link").symlink_to(write.parent.parent, target_is_directory=True)
    write.write_text(f"[{command}]\n{text}\n")
    with pytest.raises(RefusedError, match="--trust-config"):
        config.merged(build_parser(), [command, "--config", str(write)])
    option = "--" + text.partition(" =")[0]
    believed = config.merged(build_parser(), [command, "--config", str(write), "--trust-config"])
    assert any(word.startswith(option) for word in believed)


def test_what_was_typed_needs_no_trust(write: Path) -> None:
    write.write_text("[export]\nMODEL = 'a.pt'\nmodel = 'evil:build'\njunit = 'new.xml'\ntrust-pickle = false\n")
    words = ["export", "--config", str(write), "--model", "mine:build"]
    assert read(*words).factory == "mine:build"
    assert read(*words).junit == write.parent / "new.xml"


def test_a_file_cannot_trust_itself(write: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write.write_text("[inspect]\nMODEL = 'a.pt'\ntrust-config = true\n")
    assert main(["inspect", "--config", str(write)]) == 2
    assert main(["inspect", "a.pt", "--trust-config"]) == 2
    assert "--trust-config needs --config" in capsys.readouterr().err


def test_a_missing_file_is_wrong_usage(write: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--config", str(write)]) == 2
    assert "No such file" in capsys.readouterr().err


def test_what_is_saved_is_read_back(write: Path) -> None:
    words = [
        *("export", str(write.parent / "sub" / "net.pt"), "--target", "onnx,tflite", "--batch", "dynamic", "--input"),
        *("3x32x32", "--require", "executed", "--no-cache", "--arch", 'ö"\\ \t'),
    ]
    config.save(build_parser(), words, write)
    assert 'MODEL = "sub/net.pt"' in write.read_text()
    assert asked(read("export", "--config", str(write))) == asked(build_parser().parse_args(words))


def test_saving_where_nothing_can_be_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    where = tmp_path / "none" / "ulsam.toml"
    assert main(["export", str(tmp_path / "m.pt"), "--save-config", str(where)]) == 2
    assert "does not exist" in capsys.readouterr().err
