"""``--precision auto`` end to end on ONNX Runtime: it keeps to its budget, resumes, repeats itself, and says no."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ulsam_deploy.cli import main
from ulsam_deploy.device import codec
from ulsam_deploy.device.errors import Exit
from ulsam_deploy.exporting import build

from .cases import artifact_bytes, auto, manifest, words, write_small

pytestmark = pytest.mark.slow  # 'make test-search'

#: Of the small network, nothing in fp32 fits into this, and something lower does.
LIMIT = "size=99%"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A small trained network with data, and a cache that all tests of this file share."""
    folder = tmp_path_factory.mktemp("auto")
    write_small(folder, [1], 32)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ULSAM_DEPLOY_CACHE", str(folder / "cache"))
        yield folder


@pytest.fixture(scope="module")
def searched(place: Path) -> dict[str, Any]:
    """What a first search found, and the command's exit code."""
    code = main(auto(place, "first.bundle", LIMIT))
    (record,) = manifest(place, "first.bundle").artifacts
    return {**codec.encode(record.facts.auto, "auto"), "code": code, "precision": record.precision}


def _never(*_: object) -> None:
    raise AssertionError("an artifact was made again")


def test_what_it_chose_keeps_to_the_budget(searched: dict[str, Any]) -> None:
    assert searched["code"] == Exit.OK, searched["sentence"]
    assert searched["met"] is True
    (chosen,) = [point for point in searched["points"] if point["chosen"]]
    fp32, *_ = searched["points"]
    assert (fp32["precision"], fp32["ratio"]["estimate"]) == ("fp32", 1.0)
    assert chosen["precision"] == searched["precision"] != "fp32"
    assert (chosen["missed"], chosen["verdict"]) == ([], "pass")
    assert chosen["size"] <= 0.99 * fp32["size"]
    assert min(chosen["retention"].values()) >= 0.9
    assert 100 * chosen["drop"]["drop"] <= 0.5
    assert {point["precision"] for point in searched["points"]} >= {"fp32", "fp16", "int8"}
    assert any(point["pareto"] for point in searched["points"])
    faster = [p for p in searched["points"] if p["ratio"]["high"] < chosen["ratio"]["low"]]
    assert all(point["missed"] for point in faster), "what is surely faster lies outside the budget"


def test_the_report_draws_what_was_weighed(searched: dict[str, Any], place: Path) -> None:
    page = (place / "first.bundle" / "report.html").read_text()
    assert page.count("time over fp32") >= 1
    assert searched["sentence"].split(":")[0] in page
    assert "(chosen)" in page


def test_a_finished_search_makes_nothing_again_and_chooses_the_same(
    searched: dict[str, Any], place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build, "build", _never)
    assert main(auto(place, "warm.bundle", LIMIT)) == Exit.OK
    (record,) = manifest(place, "warm.bundle").artifacts
    assert {**searched, **codec.encode(record.facts.auto, "auto")} == searched
    assert artifact_bytes(place, "warm.bundle") == artifact_bytes(place, "first.bundle")


def test_an_interrupted_search_goes_on_and_its_recipe_makes_the_same_bytes(
    searched: dict[str, Any],
    place: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """In a cache without artifacts: interrupted at its third one, it makes only what it had not made."""
    shutil.copytree(place / "cache", tmp_path / "cache")
    for entry in (tmp_path / "cache").iterdir():
        if (entry / "files" / "built.json").exists():
            shutil.rmtree(entry)
    made: list[Any] = []
    make = build.build

    def counted(*arguments: Any) -> Any:
        if not going_on and len(made) == 2:
            raise KeyboardInterrupt
        made.append(arguments[2])
        return make(*arguments)

    monkeypatch.setenv("ULSAM_DEPLOY_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(build, "build", counted)
    going_on = False
    assert main(auto(place, "cut.bundle", LIMIT)) == Exit.INTERRUPTED
    assert not (place / "cut.bundle").exists()
    going_on = True
    assert main(auto(place, "cut.bundle", LIMIT)) == Exit.OK
    assert len(made) == searched["trials"], "each recipe once, over both runs"
    assert len(set(made)) == len(made)
    recipe = str(place / "cut.bundle" / "recipe.toml")
    monkeypatch.setenv("ULSAM_DEPLOY_CACHE", str(tmp_path / "another"))
    assert main(words(place, "again.bundle", "--recipe", recipe)) == Exit.OK
    unread = "so the calibration set is not read" in capsys.readouterr().err
    assert unread is (manifest(place, "cut.bundle").artifacts[0].facts.calibration is None)
    assert artifact_bytes(place, "again.bundle") == artifact_bytes(place, "cut.bundle")
    assert manifest(place, "again.bundle").artifacts[0].facts.auto is None


def test_nothing_within_the_budget_is_said_and_fp32_is_made(
    searched: dict[str, Any], place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = main([*auto(place, "none.bundle", "size=1%"), "--json", "--junit", str(place / "none.xml")])
    document = json.loads(capsys.readouterr().out)
    assert (code, document["exit_code"]) == (Exit.CHECK_FAILED, Exit.CHECK_FAILED)
    found = document["auto"]["onnx"]
    assert found["met"] is False
    assert found["sentence"].startswith("auto found nothing within the budget (")
    assert "and made fp32; nearest was " in found["sentence"]
    assert "bytes of " in found["sentence"]
    assert [record["precision"] for record in document["manifest"]["artifacts"]] == ["fp32"]
    assert 'name="budget"' in (place / "none.xml").read_text()


def test_beside_fp32_there_is_one_of_each(
    searched: dict[str, Any], place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where auto falls back on fp32, it is made once, and said once."""
    command = [*auto(place, "both.bundle", "size=1%"), "--precision", "fp32"]
    assert main(command) == Exit.CHECK_FAILED
    assert [record.precision for record in manifest(place, "both.bundle").artifacts] == ["fp32"]
    assert main([*auto(place, "two.bundle", LIMIT), "--precision", "fp32"]) == Exit.OK
    records = manifest(place, "two.bundle").artifacts
    wanted = {("fp32", "onnx-fp32/model.onnx"), (searched["precision"], f"onnx-{searched['precision']}/model.onnx")}
    assert {(record.precision, record.files[0].path) for record in records} == wanted
    table = capsys.readouterr().out
    assert "time / fp32" in table
    assert "chosen" in table


def test_every_word_can_stand_in_a_config_file(
    searched: dict[str, Any], place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its paths are relative to it, and the search is the very same: nothing is made."""
    (place / "limits.toml").write_text("[budget]\nerror = 7\nsize = '1%'\n")
    (place / "ci.toml").write_text(
        '[export]\nMODEL = "model.pt"\ntarget = ["onnx"]\nprecision = ["auto"]\ncalibration = "calibration.npz"\n'
        f'data = "data.npz"\nbudget = "limits.toml"\nlimit = ["{LIMIT}"]\noutput = "config.bundle"\n'
    )
    monkeypatch.setattr(build, "build", _never)
    assert main(["export", "--config", str(place / "ci.toml")]) == Exit.OK
    assert artifact_bytes(place, "config.bundle") == artifact_bytes(place, "first.bundle")


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--precision", "auto,int8"], "auto and int8 were both requested"),
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


def test_data_is_held_against_pytorch_by_verify_too(
    searched: dict[str, Any], place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    verify = ["verify", str(place / "first.bundle"), "--data", str(place / "data.npz")]
    capsys.readouterr()
    assert main([*verify, "--json", "--against", str(place / "model.pt")]) == Exit.OK
    (found,) = json.loads(capsys.readouterr().out)["artifacts"]
    accuracy = found["accuracy"]
    (chosen,) = [point for point in searched["points"] if point["chosen"]]
    assert (accuracy["partner"], accuracy["count"]) == ("PyTorch", 200)
    assert accuracy["paired"] == chosen["drop"]
    assert accuracy["top1"]["value"] > 0.8
    assert accuracy["top1"]["low"] < accuracy["top1"]["value"] <= accuracy["top1"]["high"]
    assert main([*verify, "--markdown", str(place / "v.md")]) == Exit.OK
    assert "top-1" in capsys.readouterr().out
    assert "Accuracy on 200 labelled samples" in (place / "v.md").read_text()
    assert main([*verify[:2], "--data", str(place / "none.npz")]) == Exit.USAGE
    shutil.copyfile(place / "model.pt", tmp_path / "other.pt")
    with (tmp_path / "other.pt").open("ab") as file:
        file.write(b"\0")
    assert main([*verify, "--against", str(tmp_path / "other.pt")]) == Exit.USAGE
    assert "is not the checkpoint that this bundle was made from" in capsys.readouterr().err
