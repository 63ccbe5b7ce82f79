"""An engine on disk: hash before anything else, a mismatch in words, a sidecar that is written last."""

from __future__ import annotations

import dataclasses
import errno
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ulsam_deploy.device.bundle import output
from ulsam_deploy.device.errors import ExportError, RefusedError, UnavailableError, UsageError
from ulsam_deploy.runtimes.tensorrt import builder, engine
from ulsam_deploy.runtimes.tensorrt.cuda import GpuMachine
from ulsam_deploy.runtimes.tensorrt.engine import Sidecar, checked_plan, sidecar_path

ORIN = GpuMachine("Orin", "8.7", "12.6", "12.6", "aarch64")
THOR = GpuMachine("Thor", "11.0", "13.0", "13.0", "aarch64")


MODULE = SimpleNamespace(__name__="tensorrt", __version__="10.3.0")


@pytest.fixture
def built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A kit built into ``tmp_path/out`` by a builder that gives the bytes ``plan``: building needs a GPU."""
    kit, asked = tmp_path / "kit", []
    kit.mkdir()
    (kit / "model.onnx").write_bytes(b"model")
    (kit / "build.json").write_text(builder.EngineRecipe("0" * 64, "fp16").to_json())

    def build(trt, onnx, recipe, *, cache):
        asked.append((onnx, recipe.precision, cache))
        return builder.Built(b"plan", builder.Parsed({}), "")

    monkeypatch.setattr(builder, "build", build)
    plan = engine.build_kit(kit, tmp_path / "out", MODULE, ORIN)
    return plan, asked


def test_a_built_engine_opens_on_its_own_machine(built: Any) -> None:
    plan, asked = built
    assert checked_plan(plan, MODULE, ORIN) == (b"plan", "fp16")
    assert checked_plan(plan, MODULE, dataclasses.replace(ORIN, driver="12.8")) == (b"plan", "fp16")
    assert asked[0][:2] == (b"model", "fp16")
    assert asked[0][2].parent == plan.parent


def test_a_changed_byte_is_refused(built: Any) -> None:
    plan, _ = built
    plan.write_bytes(b"plam")
    with pytest.raises(RefusedError, match="SHA-256"):
        checked_plan(plan, MODULE, ORIN)


def test_another_board_is_explained_in_words(built: Any) -> None:
    plan, _ = built
    newer = SimpleNamespace(__name__="tensorrt", __version__="10.16.1")
    with pytest.raises(UnavailableError) as error:
        checked_plan(plan, newer, THOR)
    assert error.value.found == (
        "the engine was built for Orin (compute capability 8.7) with tensorrt 10.3.0, JetPack 6.1-6.2; "
        "this is Thor (compute capability 11.0) with tensorrt 10.16.1, JetPack 7.2"
    )
    assert "rebuild it here" in error.value.todo


def test_the_hash_comes_before_the_fit(built: Any) -> None:
    plan, _ = built
    plan.write_bytes(b"other")
    with pytest.raises(RefusedError):
        checked_plan(plan, MODULE, THOR)


@pytest.mark.parametrize("damage", [lambda t: t[:-9], lambda t: t.replace("trt-engine/1", "9"), lambda t: "[]"])
def test_a_damaged_sidecar_opens_nothing(built: Any, damage: Any) -> None:
    plan, _ = built
    side = sidecar_path(plan)
    side.write_text(damage(side.read_text()))
    with pytest.raises(UsageError, match="sidecar"):
        checked_plan(plan, MODULE, ORIN)


def test_a_full_disk_leaves_the_old_engine_whole(built: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan, _ = built
    before = plan.read_bytes(), sidecar_path(plan).read_bytes()

    def fail(path):
        raise OSError(errno.ENOSPC, "disk full")

    monkeypatch.setattr(output, "sync", fail)
    with pytest.raises(ExportError, match="disk full"):
        engine.build_kit(tmp_path / "kit", plan.parent, MODULE, ORIN)
    assert (plan.read_bytes(), sidecar_path(plan).read_bytes()) == before
    assert engine.checked_plan(plan, MODULE, ORIN)[0] == before[0]


def test_an_engine_of_somebody_else_is_kept(built: Any, tmp_path: Path) -> None:
    plan, _ = built
    sidecar_path(plan).unlink()
    plan.write_bytes(b"theirs")
    with pytest.raises(UsageError, match="is there already"):
        engine.build_kit(tmp_path / "kit", plan.parent, MODULE, ORIN)
    assert plan.read_bytes() == b"theirs"
    engine.build_kit(tmp_path / "kit", plan.parent, MODULE, ORIN, force=True)
    assert plan.read_bytes() != b"theirs"


def test_a_folder_that_is_no_kit_is_said(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="not a TensorRT kit"):
        engine.build_kit(tmp_path, tmp_path / "out", MODULE, ORIN)


def test_timing_caches_of_other_machines_have_other_names() -> None:
    names = {
        engine.timing_cache_name("model.timing", version, machine)
        for version in ("tensorrt 10.3.0", "tensorrt 10.3.1")
        for machine in (ORIN, THOR, dataclasses.replace(ORIN, driver="12.8"))
    }
    assert len(names) == 6
    assert all(name.startswith("model-") and name.endswith(".timing") for name in names)


def test_the_sidecar_holds_what_the_issue_asks_for(built: Any) -> None:
    found = json.loads(sidecar_path(built[0]).read_text())
    assert found["machine"] == dataclasses.asdict(ORIN)
    assert (found["tensorrt"], found["onnx_sha256"]) == ("tensorrt 10.3.0", "0" * 64)
    assert Sidecar.from_json(json.dumps(found)).machine == ORIN
