"""``--precision auto`` end to end on ONNX Runtime: it keeps to its budget, resumes, repeats itself, and says no."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ulsam_deploy import making
from ulsam_deploy.bundle import Manifest, read_bundle
from ulsam_deploy.cli import main
from ulsam_deploy.errors import Exit

REFERENCE = Path(__file__).parents[3] / "models" / "cluttered_digits.pt"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The reference checkpoint with data, and a cache that all tests of this file share."""
    from ulsam_deploy.models.digits import cluttered_digits

    folder = tmp_path_factory.mktemp("auto")
    shutil.copyfile(REFERENCE, folder / "model.pt")
    np.savez(folder / "calibration.npz", x=cluttered_digits("train", 64, 11)[0])
    images, labels = cluttered_digits("held-out", 200, 7)
    np.savez(folder / "data.npz", x=images, labels=labels)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ULSAM_DEPLOY_CACHE", str(folder / "cache"))
        yield folder


def words(place: Path, output: str, *more: str) -> list[str]:
    model, calibration = str(place / "model.pt"), str(place / "calibration.npz")
    return ["export", model, "--target", "onnx", "--calibration", calibration, "-o", str(place / output), *more]


def auto(place: Path, output: str, *more: str) -> list[str]:
    return words(place, output, "--precision", "auto", "--data", str(place / "data.npz"), *more)


@pytest.fixture(scope="module")
def strict_limit(place: Path) -> str:
    """A limit on the error that plain int8 of this network breaks, and that the whole network in int8 need not."""
    assert main([*auto(place, "whole.bundle"), "--limit", "size=99%"]) == Exit.OK
    record = manifest(place, "whole.bundle").artifacts[0]
    plain = next(p for p in record.facts["auto"]["points"] if p["precision"] == "int8" and not p["keep"])
    return f"error={0.6 * plain['error']}"


@pytest.fixture(scope="module")
def searched(place: Path, strict_limit: str) -> dict[str, Any]:
    """What was found where some modules have to be kept, and nothing but int8 is small enough."""
    code = main([*auto(place, "kept.bundle"), "--limit", strict_limit, "--limit", "size=49%"])
    (record,) = manifest(place, "kept.bundle").artifacts
    return {"code": code, **record.facts["auto"], "precision": record.precision, "keep": record.facts.get("keep")}


def manifest(place: Path, name: str) -> Manifest:
    bundle = read_bundle(place / name)
    bundle.verify_integrity()
    return bundle.manifest


def artifact_bytes(place: Path, name: str) -> list[str]:
    return [file.sha256 for record in manifest(place, name).artifacts for file in record.files]


def test_what_it_chose_keeps_to_the_budget(searched: dict[str, Any], place: Path, strict_limit: str) -> None:
    assert searched["code"] == Exit.OK, searched["sentence"]
    assert searched["met"] is True
    (chosen,) = [point for point in searched["points"] if point["chosen"]]
    fp32 = next(point for point in searched["points"] if point["precision"] == "fp32")
    assert (searched["precision"], searched["keep"]) == ("int8", chosen["keep"])
    assert chosen["keep"], "plain int8 breaks the limit, so something must have been kept"
    assert chosen["missed"] == []
    assert chosen["error"] <= float(strict_limit.partition("=")[2])
    assert chosen["size"] <= 0.49 * fp32["size"]
    assert all(value >= 0.9 for value in chosen["liveness"].values())
    assert 100 * chosen["drop"]["drop"] <= 0.5
    plain = next(point for point in searched["points"] if point["precision"] == "int8" and not point["keep"])
    assert "error" in plain["missed"][0]
    assert any(point["pareto"] for point in searched["points"])


def test_no_kept_module_can_be_given_up(searched: dict[str, Any], place: Path, strict_limit: str) -> None:
    """The artifact without any one of them, made by hand, breaks the budget."""
    limit = float(strict_limit.partition("=")[2])
    for number, path in enumerate(searched["keep"]):
        rest = [word for other in searched["keep"] if other != path for word in ("--keep", other)]
        main([*words(place, f"less{number}.bundle", "--precision", "int8"), *rest])
        (record,) = manifest(place, f"less{number}.bundle").artifacts
        parity = record.evidence.parity
        assert parity
        assert max(output["error"] for output in parity["outputs"]) > limit, path


def test_the_recipe_makes_the_same_bytes_with_an_empty_cache(
    searched: dict[str, Any], place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ULSAM_DEPLOY_CACHE", str(place / "another"))
    recipe = place / "kept.bundle" / "recipe.toml"
    assert main([*words(place, "again.bundle"), "--recipe", str(recipe)]) == Exit.OK
    assert artifact_bytes(place, "again.bundle") == artifact_bytes(place, "kept.bundle")
    assert "auto" not in manifest(place, "again.bundle").artifacts[0].facts


def test_a_finished_search_makes_nothing_again_and_chooses_the_same(
    searched: dict[str, Any], place: Path, strict_limit: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(making, "make", _never)
    assert main([*auto(place, "warm.bundle"), "--limit", strict_limit, "--limit", "size=49%"]) == Exit.OK
    (record,) = manifest(place, "warm.bundle").artifacts
    assert {**record.facts["auto"]} == {key: searched[key] for key in record.facts["auto"]}
    assert artifact_bytes(place, "warm.bundle") == artifact_bytes(place, "kept.bundle")


def _never(*_: object) -> None:
    raise AssertionError("an artifact was made again")


def test_an_interrupted_search_goes_on_where_it_stopped(
    searched: dict[str, Any], place: Path, strict_limit: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Interrupted at its second-last artifact, it makes only what it had not made."""
    made: list[Any] = []
    make = making.make

    def counted(*arguments: Any) -> Any:
        made.append(arguments[2])
        return make(*arguments)

    def interrupted(*arguments: Any) -> Any:
        if len(made) == 3:
            raise KeyboardInterrupt
        return counted(*arguments)

    monkeypatch.setenv("ULSAM_DEPLOY_CACHE", str(tmp_path))
    command = [*auto(place, "cut.bundle"), "--limit", strict_limit, "--limit", "size=49%"]
    monkeypatch.setattr(making, "make", interrupted)
    assert main(command) == Exit.INTERRUPTED
    assert not (place / "cut.bundle").exists()
    before = list(made)
    assert len(before) == 3
    monkeypatch.setattr(making, "make", counted)
    assert main(command) == Exit.OK
    assert len(made) == searched["trials"], "each recipe once, over both runs"
    assert len(set(made)) == len(made)


def test_nothing_within_the_budget_is_said_and_fp32_is_made(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = main([*auto(place, "none.bundle"), "--limit", "size=1%", "--json", "--junit", str(place / "none.xml")])
    document = json.loads(capsys.readouterr().out)
    assert (code, document["exit_code"]) == (Exit.CHECK_FAILED, Exit.CHECK_FAILED)
    found = document["auto"]["onnx"]
    assert found["met"] is False
    assert found["sentence"].startswith("auto found nothing within the budget (")
    assert "and made fp32; nearest was int8" in found["sentence"]
    assert [record["precision"] for record in document["manifest"]["artifacts"]] == ["fp32"]
    assert 'name="budget"' in (place / "none.xml").read_text()


def test_beside_fp32_there_is_one_of_each(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """auto chose fp32 itself here: made once, and said once."""
    command = words(place, "both.bundle", "--precision", "fp32,auto", "--limit", "size=1%")
    assert main(command) == Exit.CHECK_FAILED
    assert [record.precision for record in manifest(place, "both.bundle").artifacts] == ["fp32"]
    assert main(words(place, "two.bundle", "--precision", "fp32,auto", "--limit", "size=49%")) == Exit.OK
    records = manifest(place, "two.bundle").artifacts
    assert sorted((record.precision, record.files[0].path) for record in records) == [
        ("fp32", "onnx-fp32/model.onnx"),
        ("int8", "onnx-int8/model.onnx"),
    ]
    table = capsys.readouterr().out
    assert "time / fp32" in table
    assert "chosen" in table


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--precision", "auto,int8"], "auto and int8 were both asked for"),
        (["--precision", "auto", "--limit", "drop=1"], "no labelled data"),
        (["--precision", "int8", "--limit", "drop=1"], "--limit is for --precision auto"),
        (["--precision", "auto", "--limit", "speed=1"], "the budget names 'speed'"),
        (["--precision", "auto", "--recipe", "x.toml"], "--recipe and --precision"),
    ],
)
def test_words_that_go_together_badly(
    place: Path, more: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words(place, "bad.bundle", *more)) == Exit.USAGE
    assert said in capsys.readouterr().err


def test_every_word_can_stand_in_a_config_file(place: Path, strict_limit: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its paths are relative to it, and the search is the very same: nothing is made."""
    (place / "limits.toml").write_text("[budget]\nerror = 7\nsize = '49%'\n")
    (place / "ci.toml").write_text(
        '[export]\nMODEL = "model.pt"\ntarget = ["onnx"]\nprecision = ["auto"]\ncalibration = "calibration.npz"\n'
        f'data = "data.npz"\nbudget = "limits.toml"\nlimit = ["{strict_limit}"]\noutput = "config.bundle"\n'
    )
    assert main([*auto(place, "kept.bundle"), "--limit", strict_limit, "--limit", "size=49%"]) == Exit.OK
    monkeypatch.setattr(making, "make", _never)
    assert main(["export", "--config", str(place / "ci.toml")]) == Exit.OK
    assert artifact_bytes(place, "config.bundle") == artifact_bytes(place, "kept.bundle")


def test_a_target_without_an_engine_here_is_not_guessed_about(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = words(place, "trt.bundle", "--precision", "auto")
    command[3] = "trt"
    assert main(command) == Exit.UNAVAILABLE
    assert "judges trt artifacts by running them, and nothing here can" in capsys.readouterr().err
    assert not (place / "trt.bundle").exists()


_KILLED = """
import os, signal, sys
from ulsam_deploy import making
from ulsam_deploy.cli import main

make, done = making.make, []

def killed(*arguments):
    if len(done) == int(sys.argv[1]):
        os.kill(os.getpid(), signal.SIGKILL)
    done.append(arguments[2])
    return make(*arguments)

making.make = killed
code = main(sys.argv[2:])
print(len(done), file=sys.stderr)
sys.exit(code)
"""


@pytest.mark.slow
def test_a_killed_search_goes_on_where_it_died(
    searched: dict[str, Any], place: Path, strict_limit: str, tmp_path: Path
) -> None:
    command = [*auto(place, "killed.bundle"), "--limit", strict_limit, "--limit", "size=49%"]
    env = {**os.environ, "ULSAM_DEPLOY_CACHE": str(tmp_path)}
    run: Callable[[int], subprocess.CompletedProcess[str]] = lambda after: subprocess.run(  # noqa: E731
        [sys.executable, "-c", textwrap.dedent(_KILLED), str(after), *command],
        env=env, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert run(2).returncode == -signal.SIGKILL
    finished = run(1000)
    assert finished.returncode == Exit.OK, finished.stderr
    assert int(finished.stderr.splitlines()[-1]) == searched["trials"] - 2
    assert artifact_bytes(place, "killed.bundle") == artifact_bytes(place, "kept.bundle")
    assert not list(place.glob(".*")), "a killed run leaves nothing beside its bundle"


def test_data_is_held_against_pytorch_by_verify_too(
    searched: dict[str, Any], place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    verify = ["verify", str(place / "kept.bundle"), "--data", str(place / "data.npz")]
    assert main([*verify, "--json", "--against", str(place / "model.pt")]) == Exit.OK
    (found,) = json.loads(capsys.readouterr().out)["artifacts"]
    accuracy = found["accuracy"]
    (chosen,) = [point for point in searched["points"] if point["chosen"]]
    assert accuracy["partner"] == "PyTorch"
    assert accuracy["count"] == 200
    assert accuracy["paired"] == chosen["drop"]
    assert accuracy["top1"]["value"] > 0.8
    assert accuracy["top1"]["low"] < accuracy["top1"]["value"] <= accuracy["top1"]["high"]
    assert main([*verify, "--markdown", str(place / "v.md")]) == Exit.OK
    assert "top-1" in capsys.readouterr().out
    assert "Accuracy on 200 labelled samples" in (place / "v.md").read_text()
    assert main([*verify[:2], "--target", "onnx", "--data", str(place / "none.npz")]) == Exit.USAGE


def test_another_checkpoint_is_no_partner(searched: dict[str, Any], place: Path, tmp_path: Path) -> None:
    shutil.copyfile(REFERENCE, tmp_path / "other.pt")
    with (tmp_path / "other.pt").open("ab") as file:
        file.write(b"\0")
    verify = ["verify", str(place / "kept.bundle"), "--data", str(place / "data.npz")]
    assert main([*verify, "--against", str(tmp_path / "other.pt")]) == Exit.USAGE
