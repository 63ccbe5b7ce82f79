"""Reading sound checkpoints in every form that people save them in."""

import errno
import hashlib
import importlib.util
import io
import json
import os
import random
import subprocess
import sys
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

from ulsam_deploy.device.errors import Exit, ExportError, RefusedError, UlsamError, UnavailableError, UsageError
from ulsam_deploy.load import checkpoint
from ulsam_deploy.load.checkpoint import read, write

WEIGHTS = {"conv.weight": torch.arange(8.0).reshape(2, 4), "conv.bias": torch.tensor([0.5, -0.5])}


def save(content, path="model.pt", **options) -> str:
    torch.save(content, path, **options)
    return path


def same(found, expected=WEIGHTS) -> bool:
    return list(found) == list(expected) and all(torch.equal(found[key], expected[key]) for key in expected)


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("name", ["model.pt", "model.safetensors", "no-suffix", "wrong.onnx"])
@pytest.mark.parametrize("form", ["zip", "old", "safetensors"])
def test_form_is_told_by_content_and_not_by_name(name: str, form: str) -> None:
    if form == "safetensors":
        safetensors.torch.save_file(WEIGHTS, name)
    else:
        save(WEIGHTS, name, _use_new_zipfile_serialization=form == "zip")
    found = read(name)
    assert found.sha256 == hashlib.sha256(Path(name).read_bytes()).hexdigest()
    assert same(dict(sorted(found.tensors.items())), dict(sorted(WEIGHTS.items())))


@pytest.mark.parametrize("wrapper", ["state_dict", "model_state_dict", "model", "net", "ema"])
def test_wrapped_weights_keep_what_lies_beside_them(wrapper: str) -> None:
    optimizer = {"state": {0: {"exp_avg": torch.zeros(3)}}, "param_groups": [{"lr": 0.1}]}
    found = read(save({"epoch": 7, wrapper: OrderedDict(WEIGHTS), "note": ["a", {"b": 1.5}], "optimizer": optimizer}))
    assert same(found.tensors)
    assert found.metadata == {"epoch": 7, "note": ["a", {"b": 1.5}]}


def test_wrappers_within_wrappers() -> None:
    found = read(save({"model": {"state_dict": WEIGHTS, "arch": "x"}, "epoch": 1}))
    assert same(found.tensors)
    assert found.metadata == {"arch": "x", "epoch": 1}


def test_one_of_two_sets_of_weights_is_taken_and_said() -> None:
    found = read(save({"model": WEIGHTS, "ema": {key: value + 1 for key, value in WEIGHTS.items()}}))
    assert same(found.tensors)
    assert found.notes == ("weights were taken from 'model', not from 'ema'; --weights ema takes those",)
    other = read("model.pt", weights="ema")
    assert same(other.tensors, {key: value + 1 for key, value in WEIGHTS.items()})


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module."])
def test_leading_prefixes_are_taken_off(prefix: str) -> None:
    found = read(save({prefix + key: value for key, value in WEIGHTS.items()}))
    assert same(found.tensors)
    assert prefix in found.notes[0]


def test_averaged_model() -> None:
    averaged = torch.optim.swa_utils.AveragedModel(nn.Linear(2, 3))
    assert sorted(read(save(averaged.state_dict())).tensors) == ["bias", "weight"]


def test_a_prefix_that_not_all_keys_have_stays() -> None:
    mixed = {"module.a": torch.ones(1), "b": torch.ones(1)}
    assert same(read(save(mixed)).tensors, mixed)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64, torch.float8_e4m3fn])
def test_other_floats_become_float32_with_a_note(dtype: Any) -> None:
    found = read(save({"w": torch.tensor([0.5, 2.0]).to(dtype), "steps": torch.tensor(3)}))
    assert found.tensors["w"].dtype == torch.float32
    assert found.tensors["w"].tolist() == [0.5, 2.0]
    assert found.tensors["steps"].dtype == torch.int64
    assert str(dtype).removeprefix("torch.") in found.notes[0]


def test_tensors_are_plain_whatever_was_saved() -> None:
    base = torch.arange(12.0).reshape(3, 4)
    found = read(save({"view": base.t(), "parameter": nn.Parameter(base), "tied": base})).tensors
    assert torch.equal(found["view"], base.t())
    for tensor in found.values():
        assert type(tensor) is torch.Tensor
        assert tensor.is_contiguous()
        assert not tensor.requires_grad
    found["parameter"].zero_()
    assert found["tied"].sum() == 66


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_weights_that_are_not_finite_are_named(value: Any) -> None:
    bad = {f"layer{n}.weight": torch.tensor([1.0, value]) for n in range(5)}
    with pytest.raises(ExportError, match=r"layer0\.weight, layer1\.weight, layer2\.weight and 2 more"):
        read(save({"fine": torch.ones(1), **bad}))


def test_float64_that_overflows_float32_is_not_finite() -> None:
    with pytest.raises(ExportError, match="not finite: w"):
        read(save({"w": torch.tensor([1e300], dtype=torch.float64)}))


def test_missing_file_folder_and_pipe_are_usage_errors() -> None:
    Path("folder").mkdir()
    os.mkfifo("pipe")
    for name, words in (("none.pt", "does not exist"), ("folder", "is a folder"), ("pipe", "not a regular file")):
        with pytest.raises(UsageError, match=words) as caught:
            read(name)
        assert caught.value.exit_code == Exit.USAGE


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_unreadable_file() -> None:
    Path(save(WEIGHTS)).chmod(0)
    with pytest.raises(UsageError, match="cannot be opened"):
        read("model.pt")


def test_empty_file() -> None:
    Path("model.pt").touch()
    with pytest.raises(ExportError, match="empty"):
        read("model.pt")


def test_without_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    save(WEIGHTS)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UnavailableError, match="PyTorch"):
        read("model.pt")


def test_newer_pickle_protocol_says_which_instruction() -> None:
    with pytest.raises(RefusedError, match="Unsupported operand 149"):
        read(save(WEIGHTS, pickle_protocol=4))
    assert same(read("model.pt", trust_pickle=True).tensors)


def test_safetensors_metadata() -> None:
    declared = json.dumps({"network": "x", "config": {"a": 1}})
    safetensors.torch.save_file(WEIGHTS, "m.safetensors", {"ulsam_deploy": declared, "by": "me"})
    assert read("m.safetensors").metadata == {"ulsam_deploy": {"network": "x", "config": {"a": 1}}, "by": "me"}
    safetensors.torch.save_file(WEIGHTS, "m.safetensors", {"ulsam_deploy": "{not json"})
    assert read("m.safetensors").metadata == {}


# --- damage: whatever happens to the bytes, the answer is a sentence or finite tensors --------------------------------


def forms() -> dict[str, bytes]:
    zipped, old = io.BytesIO(), io.BytesIO()
    torch.save({"state_dict": WEIGHTS, "epoch": 3}, zipped)
    torch.save({"state_dict": WEIGHTS, "epoch": 3}, old, _use_new_zipfile_serialization=False)
    return {"zip": zipped.getvalue(), "old": old.getvalue(), "safetensors": safetensors.torch.save(WEIGHTS, {"a": "b"})}


FORMS = forms()


def survives(data: bytes) -> bool:
    Path("damaged").write_bytes(data)
    try:
        found = read("damaged")
    except (ExportError, RefusedError) as error:
        return len(str(error).splitlines()) <= 3
    return all(bool(torch.isfinite(tensor).all()) for tensor in found.tensors.values())


@pytest.mark.parametrize("form", FORMS)
def test_cut_short_anywhere(form: Any) -> None:
    data = FORMS[form]
    for length in range(0, len(data), 7):
        Path("damaged").write_bytes(data[:length])
        with pytest.raises(UlsamError) as caught:
            read("damaged")
        assert caught.value.exit_code == Exit.EXPORT_FAILED


@pytest.mark.parametrize("form", FORMS)
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(changes=st.lists(st.tuples(st.floats(0, 0.9999), st.integers(0, 255)), min_size=1, max_size=8))
def test_bytes_changed_anywhere(form: Any, changes: Any) -> None:
    data = bytearray(FORMS[form])
    for where, value in changes:
        data[int(where * len(data))] = value
    assert survives(bytes(data))


@pytest.mark.parametrize("form", FORMS)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 1 << 30))
def test_pieces_cut_out_doubled_and_moved(form: Any, seed: Any) -> None:
    data, source = FORMS[form], random.Random(seed)
    first, second = sorted(source.sample(range(len(data)), 2))
    assert survives(
        source.choice([data[:first] + data[second:], data[:second] + data[first:], data[second:] + data[:second]])
    )


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.binary(max_size=300), head=st.sampled_from([b"", b"PK\x03\x04", b"\x80\x02", FORMS["old"][:60]]))
def test_random_bytes(data: Any, head: Any) -> None:
    assert survives(head + data)


# --- writing ----------------------------------------------------------------------------------------------------------

WRITE = """
import sys, torch
from ulsam_deploy.device import plugins
from ulsam_deploy.load import checkpoint
network = plugins.load(plugins.MODELS, "mobilenet_v2")
config = {"width": 0.35, "classes": 3, "insert": (13,)}
torch.manual_seed(0)
checkpoint.write(sys.argv[1], network.build(config), network, config, (3, 64, 64))
"""


def test_same_weights_same_bytes_in_every_process(tmp_path: Path) -> None:
    hashes = set()
    for seed, folder in (("1", "a"), ("2", "b")):
        (tmp_path / folder).mkdir()
        environment = {**os.environ, "PYTHONHASHSEED": seed, "OMP_NUM_THREADS": "1", "USER": folder}
        command = [sys.executable, "-c", WRITE, f"{folder}.pt"]
        subprocess.run(command, cwd=tmp_path / folder, env=environment, check=True, timeout=120)
        hashes.add(read(tmp_path / folder / f"{folder}.pt").sha256)
    assert len(hashes) == 1


def small():
    from ulsam_deploy.device import plugins

    network = plugins.load(plugins.MODELS, "mobilenet_v2")
    config = {"width": 0.35, "classes": 3, "insert": [13], "variant": "softmax-over-channel"}
    return network.build(config), network, config, (3, 64, 64)


def test_written_file_says_what_it_is() -> None:
    write("new.pt", *small())
    found = read("new.pt")
    assert found.metadata["ulsam_deploy"] == {"network": "mobilenet_v2", "config": small()[2], "input": [3, 64, 64]}
    network, config = checkpoint.identify(found)
    assert config["variant"] == "softmax-over-channel"
    assert checkpoint.build(found, network, config)(torch.zeros(1, 3, 64, 64)).shape == (1, 3)


def test_failed_write_leaves_the_old_file_and_no_litter(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("new.pt").write_bytes(b"old")

    def full(_descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ExportError, match="No space left"):
        write("new.pt", *small(), force=True)
    assert Path("new.pt").read_bytes() == b"old"
    assert os.listdir() == ["new.pt"]  # noqa: PTH208


def test_write_into_a_folder_that_is_not_there() -> None:
    with pytest.raises(UsageError, match="does not exist"):
        write("no/such/folder/new.pt", *small())
