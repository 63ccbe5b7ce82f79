"""``--json``: one document on stdout whatever becomes of the command, of the published schema."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any, NoReturn

import jsonschema
import pytest

from ulsam_deploy.cli import main
from ulsam_deploy.cli.parser import COMMANDS
from ulsam_deploy.device import codec
from ulsam_deploy.device.bundle import Evidence
from ulsam_deploy.device.commands import on_device
from ulsam_deploy.device.commands.answer import ErrorDocument
from ulsam_deploy.device.commands.parser import command_of
from ulsam_deploy.device.errors import Exit, ExportError, RefusedError, UnavailableError, UsageError
from ulsam_deploy.device.types import Artifact, EvidenceLevel
from ulsam_deploy.exporting.build import BuiltArtifact
from ulsam_deploy.exporting.outcome import Outcome
from ulsam_deploy.exporting.pipeline import Exported

from ..handmade import make_bundle

PUBLISHED = Path(__file__).parents[3] / "docs" / "commands.schema.json"
VALIDATOR = jsonschema.Draft202012Validator(json.loads(PUBLISHED.read_text()))
#: The least that each command takes.
WORDS = {
    "export": "export net.pt",
    "sweep": "sweep sweep.toml",
    "verify": "verify net.bundle",
    "bench": "bench net.bundle",
    "compare": "compare old.json new.json",
    "lint": "lint net.pt",
    "inspect": "inspect net.pt",
    "doctor": "doctor",
    "report": "report net.bundle",
    "new": "new mobilenet_v2",
    "pack": "pack net.bundle",
    "sign": "sign net.bundle --key key.pem",
    "build": "build trt",
    "cache": "cache",
}
#: What each says where nothing that it names is there; the others need nothing.
MISSING = sorted(set(WORDS) - {"doctor", "new", "cache"})


@pytest.fixture(autouse=True)
def empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ULSAM_DEPLOY_CACHE", str(tmp_path / "cache"))


def failure(out: str, code: int) -> ErrorDocument:
    """The one document in ``out``, an error's."""
    document: dict[str, Any] = json.loads(out)
    VALIDATOR.validate(document)
    found = codec.decode(ErrorDocument, document, "error")
    assert found.exit_code == code
    assert found.found
    return found


def test_every_command_is_tried() -> None:
    assert set(WORDS) == set(COMMANDS)


@pytest.mark.parametrize("command", MISSING)
def test_what_is_not_there(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    code = main([*WORDS[command].split(), "--json"])
    out, err = capsys.readouterr()
    found = failure(out, code)
    assert code in (2, 4)
    assert f"error: {found.found}" in err


@pytest.mark.parametrize("command", COMMANDS)
def test_words_that_are_wrong(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([command, "--json", "--no-such-word"]) == 2
    failure(capsys.readouterr().out, 2)


@pytest.mark.parametrize("words", [["--json"], ["expert", "--json"], ["export", "--json"]])
def test_no_command_at_all(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 2
    failure(capsys.readouterr().out, 2)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (UsageError("wrong", expected="right", todo="type it"), 2),
        (ExportError("broken"), 3),
        (UnavailableError("not here", todo="install it"), 4),
        (RefusedError("altered", expected="untouched"), 6),
        (KeyboardInterrupt(), 130),
    ],
    ids=["usage", "export", "unavailable", "refused", "interrupt"],
)
@pytest.mark.parametrize("command", COMMANDS)
def test_whatever_stops_a_command(
    command: str,
    error: BaseException,
    code: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Also after it has printed something, which then is dropped: half a result is none."""

    def stop(_: object) -> NoReturn:
        print('{"schema": "half"}')
        raise error

    monkeypatch.setattr(command_of(COMMANDS, command), "run", stop)
    assert main([*WORDS[command].split(), "--json"]) == code
    found = failure(capsys.readouterr().out, code)
    if isinstance(error, UsageError):
        assert (found.found, found.expected, found.todo) == ("wrong", "right", "type it")
    assert main(WORDS[command].split()) == code
    assert capsys.readouterr().out == '{"schema": "half"}\n', "without --json nothing is held back"


def test_a_file_of_words_asks_for_it_as_well(capsys: pytest.CaptureFixture[str]) -> None:
    Path("words.toml").write_text("[inspect]\njson = true\n")
    assert main(["inspect", "net.pt", "--config", "words.toml"]) == 2
    failure(capsys.readouterr().out, 2)
    Path("words.toml").write_text("[inspect]\njson = true\ninput = '3xtwo'\n")
    assert main(["inspect", "net.pt", "--config", "words.toml"]) == 2
    failure(capsys.readouterr().out, 2)
    assert main(["inspect", "net.pt", "--json", "--config", "none.toml"]) == 2
    failure(capsys.readouterr().out, 2)


def test_a_result_that_is_no_success_is_the_document(capsys: pytest.CaptureFixture[str]) -> None:
    path = make_bundle(Path("dense.bundle"), targets=("onnx",)).root
    assert main(["verify", str(path), "--require", "emulated-on-device-cpu", "--json"]) == 4
    document = json.loads(capsys.readouterr().out)
    VALIDATOR.validate(document)
    assert (document["schema"], document["exit_code"]) == ("ulsam-deploy.verify/5", 4)


def test_an_export_names_each_artifact_that_fell_short(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    artifact = Artifact("trt", "fp16", ("model.onnx",), (), (), EvidenceLevel.COMPILED, {})
    outcomes = (Outcome("trt", "fp16", "trt", BuiltArtifact(artifact, Evidence(EvidenceLevel.COMPILED))),)
    monkeypatch.setattr(
        "ulsam_deploy.exporting.pipeline.export", lambda *_: Exported(None, outcomes, (), Exit.UNAVAILABLE)
    )

    def none(target: str) -> NoReturn:
        raise UnavailableError(f"no engine here can run '{target}' artifacts: no driver", todo="get one")

    monkeypatch.setattr("ulsam_deploy.cli.export_answer.runtime_for", none)
    words = ["export", "net.pt", "--target", "trt", "--precision", "fp16", "--require", "executed"]
    assert main([*words, "--json"]) == 4
    document = json.loads(capsys.readouterr().out)
    VALIDATOR.validate(document)
    assert document["missed"] == [
        {
            "target": "trt", "precision": "fp16", "reached": "compiled", "required": "executed",
            "why": "no engine here can run 'trt' artifacts: no driver", "todo": "get one",
        }
    ]  # fmt: skip
    assert main(words) == 4
    told = capsys.readouterr().err
    assert "trt fp16: reached 'compiled', but 'executed' was required: no engine here can run 'trt'" in told


def test_a_board_that_lacks_what_a_command_needs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def lacking(*_: object, **__: object) -> NoReturn:
        raise ImportError("No module named 'numpy'", name="numpy")

    monkeypatch.setattr("ulsam_deploy.device.commands.verify.run", lacking)
    assert on_device.main(["verify", "net.bundle", "--json"]) == Exit.UNAVAILABLE
    failure(capsys.readouterr().out, 4)


def test_from_outside() -> None:
    """In a process of its own, where stdout is a pipe."""
    command = [sys.executable, "-m", "ulsam_deploy", "inspect", "none.pt", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert failure(done.stdout, done.returncode).exit_code == 2
    assert "none.pt" in done.stderr


@pytest.mark.parametrize("json_too", [False, True])
def test_a_full_stdout_is_told_and_no_traceback(json_too: bool, tmp_path: Path) -> None:
    words = [sys.executable, "-m", "ulsam_deploy", "new", "--list", *(["--json"] if json_too else [])]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(words, stdout=full, stderr=subprocess.PIPE, text=True, cwd=tmp_path)
    assert done.returncode == Exit.EXPORT_FAILED
    assert done.stderr.startswith("error: this machine refused: No space left on device")
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr


def test_a_name_does_not_steer_the_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", str(tmp_path / "\x1b[31mred\r.pt")]) == Exit.USAGE
    said = capsys.readouterr().err
    assert "\\x1b[31mred\\r.pt" in said
    assert not set("\x1b\r") & set(said)
