"""Checkpoints as trainers write them: read without running anything, and without asking for trust."""

from __future__ import annotations

import argparse
import sys
import types
from collections import OrderedDict, defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from ulsam_deploy.cli import main
from ulsam_deploy.device.errors import RefusedError, UsageError
from ulsam_deploy.load.checkpoint import from_factory, read

WEIGHTS = {"0.weight": torch.arange(4.0).reshape(2, 2, 1, 1), "0.bias": torch.tensor([0.5, -0.5])}
EMA = {key: value + 1 for key, value in WEIGHTS.items()}


def build() -> nn.Module:
    return nn.Sequential(nn.Conv2d(2, 2, 1), nn.ReLU())


@pytest.fixture(autouse=True)
def _in_a_folder_with_the_users_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    user = types.ModuleType("user_net")
    user.build, user.parallel = build, lambda: nn.DataParallel(build())  # type: ignore[attr-defined]
    user.compiled = lambda: torch.compile(build())  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "user_net", user)


def saved(content: Any) -> str:
    torch.save(content, "model.pt")
    return "model.pt"


def same(found: Any, expected: Any = WEIGHTS) -> bool:
    return found.keys() == expected.keys() and all(torch.equal(found[key], expected[key]) for key in expected)


def under(prefix: str, weights: Any = WEIGHTS) -> dict[str, Any]:
    return {prefix + key: value for key, value in weights.items()}


class HistoryBuffer:
    """As mmengine's: an object with a NumPy array, filled by ``__setstate__``."""

    def __init__(self) -> None:
        self._log_history = np.arange(3.0)


HistoryBuffer.__module__ = "mmengine.logging.history_buffer"

SETTINGS = argparse.Namespace(lr=0.1, data=Path("x"), opts=["a", 2])
#: What trainers store, and the path of its weights.
FILES: dict[str, Any] = {
    "a loop with NumPy scalars": {"model_state_dict": WEIGHTS, "val_loss": np.mean([0.1, 0.2]), "best": np.float32(2)},
    "arrays beside them": {"state_dict": WEIGHTS, "mean": np.arange(3), "class_weights": np.ones((2, 2), np.float32)},
    "weights as arrays": {key: value.numpy() for key, value in WEIGHTS.items()},
    "timm": {"epoch": 3, "arch": "x", "state_dict": WEIGHTS, "args": SETTINGS, "state_dict_ema": EMA},
    "BasicSR": {"params": WEIGHTS},
    "BasicSR with averages": {"params_ema": EMA, "params": WEIGHTS},
    "HoVer-Net": {"desc": WEIGHTS, "optimizer": {"state": {0: {"exp_avg": torch.ones(2)}}, "param_groups": []}},
    "nnU-Net": {"network_weights": OrderedDict(WEIGHTS), "logging": defaultdict(list, {"loss": [np.float64(1)]})},
    "one level more": {"checkpoint": {"network": WEIGHTS}, "epoch": 1},
}


@pytest.mark.parametrize("name", FILES)
def test_the_weights_are_found_without_trust(name: str) -> None:
    found = read(saved(FILES[name]))
    assert same(found.tensors)
    averaged = "ema" in str(FILES[name].keys())
    assert [note for note in found.notes if "--weights" in note] == list(found.notes)[: int(averaged)]


def test_mmengine(monkeypatch: pytest.MonkeyPatch) -> None:
    module = types.ModuleType("mmengine.logging.history_buffer")
    module.HistoryBuffer = HistoryBuffer  # type: ignore[attr-defined]
    for name in ("mmengine", "mmengine.logging"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    monkeypatch.setitem(sys.modules, module.__name__, module)
    path = saved(
        {"meta": {"epoch": 1}, "state_dict": WEIGHTS, "message_hub": {"log_scalars": {"loss": HistoryBuffer()}}}
    )
    for name in ("mmengine", "mmengine.logging", module.__name__):
        monkeypatch.delitem(sys.modules, name)
    assert same(read(path).tensors)
    assert "mmengine" not in sys.modules


def test_numbers_and_settings_beside_the_weights_keep_their_values() -> None:
    metadata = read(
        saved({"state_dict": WEIGHTS, "loss": np.float32(0.25), "args": SETTINGS, "n": np.int64(7)})
    ).metadata
    assert metadata["loss"] == 0.25
    assert metadata["n"] == 7


def test_what_would_run_is_refused_beside_it_as_well() -> None:
    class Runs:
        def __reduce__(self) -> Any:
            return Path.touch, (Path("ran"),)

    class Calls:
        def __reduce__(self) -> Any:
            return exec, ("open('ran', 'w')",)

    with pytest.raises(RefusedError):
        read(saved({"state_dict": WEIGHTS, "args": SETTINGS, "x": Calls()}))
    with pytest.raises(RefusedError):
        read(saved({"state_dict": WEIGHTS, "x": Runs()}))
    assert not Path("ran").exists()


def test_a_record_that_holds_itself_is_read_in_bounded_time() -> None:
    ring: list[Any] = [np.float64(1)]
    ring += [ring] * 20
    assert same(read(saved({"state_dict": WEIGHTS, "ring": ring})).tensors)


def test_a_gan_is_asked_about() -> None:
    path = saved({"generator": WEIGHTS, "discriminator": under("d."), "generator_ema": EMA, "epoch": 2})
    with pytest.raises(UsageError, match=r"'generator' \(2 tensors\), 'discriminator' \(2 tensors\)") as caught:
        read(path)
    assert "--weights generator" in str(caught.value.todo)
    assert same(read(path, weights="generator").tensors)
    assert same(read(path, weights="generator_ema").tensors, EMA)
    with pytest.raises(UsageError, match="no weights under 'x'"):
        read(path, weights="x")


@pytest.mark.parametrize("prefix", ["model.", "network.", "generator.net."])
def test_a_prefix_is_taken_off_where_the_rest_fits_exactly(prefix: str) -> None:
    beside = {"loss.weight": torch.ones(3)}
    model, notes = from_factory("user_net:build", read(saved({"state_dict": {**under(prefix), **beside}})))
    assert same(model.state_dict())
    assert notes == (f"the leading '{prefix}' was taken off 2 keys, and 1 others were left out",)


def test_counts_of_a_profiler_are_left_out() -> None:
    counted = {**WEIGHTS, "total_ops": torch.zeros(1), "0.total_params": torch.zeros(1)}
    model, notes = from_factory("user_net:build", read(saved(counted)))
    assert same(model.state_dict())
    assert "2 counts of a profiler" in notes[0]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch.compile warns about torch's own code
@pytest.mark.parametrize("factory", ["parallel", "compiled"])
def test_a_wrapped_factory_takes_its_own_state_dict(factory: str) -> None:
    prefix = "module." if factory == "parallel" else "_orig_mod."
    model, _ = from_factory(f"user_net:{factory}", read(saved(under(prefix))))
    assert same(model.state_dict())
    assert type(model) is nn.Sequential


def test_what_does_not_fit_exactly_is_not_bent() -> None:
    wrong = {**under("model."), "model.extra": torch.ones(1)}
    with pytest.raises(UsageError, match="does not fit"):
        from_factory("user_net:build", read(saved(wrong)))


def test_a_lightning_checkpoint_of_a_known_network_is_recognized(capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        main(["new", "mobilenet_v2", "--insert", "6", "--width", "0.35", "--input", "3x64x64", "-o", "plain.pt"]) == 0
    )
    lightning = {"state_dict": under("model.", read("plain.pt").tensors), "pytorch-lightning_version": "2.4.0"}
    assert main(["inspect", saved(lightning), "--input", "3x64x64"]) == 0
    assert "mobilenet_v2" in capsys.readouterr().out


def test_the_option_is_for_checkpoints(capsys: pytest.CaptureFixture[str]) -> None:
    saved({"generator": WEIGHTS, "discriminator": under("d.")})
    words = ["inspect", "model.pt", "--model", "user_net:build", "--input", "2x4x4"]
    assert main(words) == 2
    assert "--weights" in capsys.readouterr().err
    assert main([*words, "--weights", "generator"]) == 0
