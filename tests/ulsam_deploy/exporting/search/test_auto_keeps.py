"""``--precision auto`` where modules have to be kept, on the trained reference network; and through a SIGKILL."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ulsam_deploy.cli import main
from ulsam_deploy.device import codec
from ulsam_deploy.device.errors import Exit

from .cases import artifact_bytes, auto, manifest, words, write_reference, write_small

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The reference checkpoint with data, and a cache that all tests of this file share."""
    folder = tmp_path_factory.mktemp("keeps")
    write_reference(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ULSAM_DEPLOY_CACHE", str(folder / "cache"))
        yield folder


@pytest.fixture(scope="module")
def limits(place: Path) -> tuple[str, str]:
    """An error that plain int8 of this network goes beyond, and a size that neither fp32 nor fp16 has."""
    assert main(auto(place, "whole.bundle", "size=49%")) == Exit.OK
    (record,) = manifest(place, "whole.bundle").artifacts
    plain = next(p for p in record.facts.auto.points if p.precision == "int8" and not p.keep)
    assert min(plain.retention.values()) >= 0.9
    return f"error={0.6 * plain.error}", "size=49%"


@pytest.fixture(scope="module")
def searched(place: Path, limits: tuple[str, str]) -> dict[str, Any]:
    """What was found where some modules have to be kept, and nothing but int8 is small enough."""
    code = main(auto(place, "kept.bundle", *limits))
    (record,) = manifest(place, "kept.bundle").artifacts
    return {
        "code": code,
        **codec.encode(record.facts.auto, "auto"),
        "precision": record.precision,
        "keep": record.facts.keep,
    }


def test_what_it_chose_keeps_to_the_budget(searched: dict[str, Any], limits: tuple[str, str]) -> None:
    assert searched["code"] == Exit.OK, searched["sentence"]
    (chosen,) = [point for point in searched["points"] if point["chosen"]]
    fp32 = searched["points"][0]
    assert (searched["precision"], searched["keep"]) == ("int8", chosen["keep"])
    assert chosen["keep"], "plain int8 breaks the limit, so something must have been kept"
    assert chosen["missed"] == []
    assert chosen["error"] <= float(limits[0].partition("=")[2])
    assert chosen["size"] <= 0.49 * fp32["size"]
    assert min(chosen["retention"].values()) >= 0.9
    assert 100 * chosen["drop"]["drop"] <= 0.5
    plain = next(point for point in searched["points"] if point["precision"] == "int8" and not point["keep"])
    assert "error" in plain["missed"][0]


def test_no_kept_module_can_be_given_up(searched: dict[str, Any], place: Path, limits: tuple[str, str]) -> None:
    """The artifact without any one of them, made by hand, breaks the budget."""
    assert searched["keep"]
    for number, path in enumerate(searched["keep"]):
        rest = [word for other in searched["keep"] if other != path for word in ("--keep", other)]
        main([*words(place, f"less{number}.bundle", "--precision", "int8"), *rest])
        (record,) = manifest(place, f"less{number}.bundle").artifacts
        parity = record.evidence.parity
        assert parity
        assert max(output.error for output in parity.outputs) > float(limits[0].partition("=")[2]), path


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


def test_a_killed_search_goes_on_where_it_died(
    searched: dict[str, Any], place: Path, limits: tuple[str, str], tmp_path: Path
) -> None:
    """In a fresh cache, killed outright at its fourth artifact; its recipe then makes the same bytes in another one."""

    def run(after: int, *command: str) -> subprocess.CompletedProcess[str]:
        words = [sys.executable, "-c", _KILLED, str(after), *command]
        return subprocess.run(words, env=env, capture_output=True, text=True, check=False)

    env = {**os.environ, "ULSAM_DEPLOY_CACHE": str(tmp_path / "cache")}
    command = auto(place, "killed.bundle", *limits)
    assert run(3, *command).returncode == -signal.SIGKILL
    finished = run(1000, *command)
    assert finished.returncode == Exit.OK, finished.stderr
    assert int(finished.stderr.splitlines()[-1]) == searched["trials"] - 3
    assert artifact_bytes(place, "killed.bundle") == artifact_bytes(place, "kept.bundle")
    assert not list(place.glob(".*")), "a killed run leaves nothing beside its bundle"
    env["ULSAM_DEPLOY_CACHE"] = str(tmp_path / "another")
    recipe = str(place / "kept.bundle" / "recipe.toml")
    again = run(1000, *words(place, "again.bundle", "--recipe", recipe))
    assert again.returncode == Exit.OK, again.stderr
    assert artifact_bytes(place, "again.bundle") == artifact_bytes(place, "kept.bundle")


def test_the_diffuse_network_does_not_lose_its_attention_unseen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Attention on 56 x 56 and 28 x 28 maps: plain int8 is not let through, and auto saves what it can."""
    monkeypatch.setenv("ULSAM_DEPLOY_CACHE", str(tmp_path / "cache"))
    write_small(tmp_path, [1, 3], 112)
    code = main(auto(tmp_path, "diffuse.bundle", "size=99%"))
    (record,) = manifest(tmp_path, "diffuse.bundle").artifacts
    found = codec.encode(record.facts.auto, "auto")
    assert code == (Exit.OK if found["met"] else Exit.CHECK_FAILED)
    plain = next(point for point in found["points"] if point["precision"] == "int8" and not point["keep"])
    assert plain["missed"], plain
    (chosen,) = [point for point in found["points"] if point["chosen"]]
    if found["met"]:
        assert min(chosen["retention"].values()) >= 0.9
    else:
        assert record.precision == "fp32"
        assert "auto found nothing within the budget" in found["sentence"]


def test_a_target_without_an_engine_here_is_not_guessed_about(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words(place, "trt.bundle", "--precision", "auto", target="trt")) == Exit.UNAVAILABLE
    assert "judges trt artifacts by running them, and nothing here can" in capsys.readouterr().err
    assert not (place / "trt.bundle").exists()
