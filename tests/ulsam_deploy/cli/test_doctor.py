"""``doctor``: whatever is missing is named with what to type, precision by precision and tool by tool."""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
import sys
import sysconfig
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from ulsam_deploy.boards.remote import Finished
from ulsam_deploy.cli import diagnosis, doctor_hosts, hosts, main
from ulsam_deploy.device import third_party
from ulsam_deploy.device.commands import backends
from ulsam_deploy.device.commands.documents import DoctorDocument
from ulsam_deploy.device.errors import Exit

Without = Callable[..., None]


@pytest.fixture
def without(monkeypatch: pytest.MonkeyPatch) -> Without:
    """``without("nncf")``: as if these packages were not here."""
    real = importlib.util.find_spec

    def hide(*names: str) -> None:
        monkeypatch.setattr(third_party, "find_spec", lambda name: None if name in names else real(name))

    return hide


def unusable(found: DoctorDocument) -> dict[str, str]:
    """Everything that is not possible, and what to do about it."""
    made: dict[str, Any] = {f"{b.name} {p.name}": p for b in found.backends if b.does == "make" for p in b.precisions}
    tools: dict[str, Any] = {f"{tool.does} {tool.name}": tool for tool in found.tools}
    return {name: one.todo for name, one in {**made, **tools}.items() if not one.usable}


@pytest.mark.parametrize(
    ("missing", "lost", "todo"),
    [
        ("nncf", {"openvino int8"}, "pip install 'ulsam-deploy[openvino]"),
        ("ai_edge_quantizer", {"tflite fp16", "tflite int8", "tflite int8-dynamic"}, "'ulsam-deploy[tflite]"),
        ("onnxsim", {"onnx fp32", "onnx fp16", "onnx int8", "onnx auto"}, "pip install 'ulsam-deploy[onnx]"),
        ("jinja2", {"write report.html"}, "pip install 'ulsam-deploy[report]"),
        ("matplotlib", {"write report.html"}, "pip install 'ulsam-deploy[report]"),
        ("model_signing", {"sign bundles"}, "pip install 'ulsam-deploy[sign]"),
        ("distributed", {"sweep on a cluster"}, "pip install 'ulsam-deploy[dask]"),
        ("PIL", {"read pictures"}, "pip install pillow"),
        ("ssh", {"use boards by --host"}, "apt-get install openssh-client"),
        ("qemu-aarch64", {"emulate rpi4", "emulate rpi5", "emulate rpi3", "count instructions"}, "install qemu-user"),
        ("qemu-arm", {"emulate rpi4-32bit"}, "apt-get install qemu-user"),
    ],
)  # fmt: skip
def test_what_is_missing_is_named_with_what_to_type(
    missing: str, lost: set[str], todo: str, without: Without, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ulsam_deploy.boards.emulate import available, plugin, tools

    monkeypatch.setattr(available, "release_for", lambda *_: ("bookworm", None))
    monkeypatch.setattr(available, "entry_of", lambda *_: Path("nowhere"))
    monkeypatch.setattr(tools, "qemu_version", lambda _: (7, 2))
    monkeypatch.setattr(tools, "check_model", lambda *_: None)
    monkeypatch.setattr(plugin, "check", lambda _: None)
    monkeypatch.setattr(shutil, "which", lambda name: None if name == missing else f"/bin/{name}")
    without(missing)
    found = unusable(diagnosis.diagnosis())
    assert lost <= set(found)
    assert all(todo in found[name] for name in lost)
    monkeypatch.setattr(shutil, "which", lambda name: f"/bin/{name}")
    without()
    others = unusable(diagnosis.diagnosis())
    assert not lost & set(others) or missing == "model_signing", "it is missing here anyway"


def test_looking_for_pip_starts_no_hook_of_setuptools(monkeypatch: pytest.MonkeyPatch) -> None:
    """The hook warns where distutils was imported before, and a warning is an error here."""
    from ulsam_deploy.boards.emulate import available

    monkeypatch.setitem(sys.modules, "distutils", ModuleType("distutils"))
    assert available._has_pip()
    monkeypatch.setattr("importlib.metadata.distribution", metadata_without_pip)
    assert not available._has_pip()


def metadata_without_pip(name: str) -> None:
    raise PackageNotFoundError(name)


def test_a_profile_of_a_release_without_an_archive_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own.toml").write_text('[odd]\ntitle = "odd"\nlike = "rpi4"\n[odd.arm]\nrelease = "potato"\n')
    monkeypatch.setenv("ULSAM_DEPLOY_DEVICES", str(tmp_path / "own.toml"))
    (found,) = (tool for tool in diagnosis.diagnosis().tools if tool.name == "odd" and tool.does == "emulate")
    assert "the profile's release is 'potato'" in found.detail
    assert found.todo == "set 'release' of [odd.arm]"


def test_the_precisions_that_are_possible_here_are_one_line(
    without: Without, capsys: pytest.CaptureFixture[str]
) -> None:
    without("nncf")
    assert main(["doctor"]) == 0
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("Precisions possible here: ")]
    assert "onnx fp32, fp16, int8, auto; openvino fp32, fp16, auto; tflite fp32" in line
    assert "--calibration" in diagnosis.CALIBRATION


def test_a_precision_whose_package_is_missing_is_exit_4_before_anything_is_read(
    folder: Path, without: Without, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    import numpy as np

    np.savez(tmp_path / "real.npz", np.zeros((64, 3, 64, 64), np.float32))
    without("nncf")
    words = ["export", folder / "net.pt", "--target", "openvino", "--precision", "int8", "-o", tmp_path / "m.bundle"]
    assert main([*map(str, words), "--calibration", str(tmp_path / "real.npz"), "--no-cache"]) == 4
    said = capsys.readouterr().err
    assert "not installed: nncf" in said
    assert "pip install 'ulsam-deploy[openvino]" in said
    assert "  load " not in said, "the network was loaded although nothing could be made of it"


def test_a_python_of_the_system_is_told_how_to_get_an_environment(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Debian's pip refuses, so what every other line advises would fail."""
    monkeypatch.setattr(sysconfig, "get_path", lambda _: str(tmp_path))
    monkeypatch.setattr(sys, "base_prefix", sys.prefix)
    assert backends.notes() == ()
    (tmp_path / "EXTERNALLY-MANAGED").touch()
    assert "python3 -m venv --system-site-packages" in backends.notes()[0]


def test_what_hosts_say_is_held_against_the_type(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A board's document is one of ours, or it is refused: nothing of it is read by key."""
    assert main(["doctor", "--json"]) == 0
    good = json.loads(capsys.readouterr().out)
    said = {"kitchen": good, "bench": {**good, "backends": [{"does": "run", "name": "onnxruntime"}]}}

    def at_hosts(arguments: object, folder: Path, words: object) -> list[hosts.HostReply]:
        finished = {name: Finished(0, json.dumps(told), "", {}, "3.13.5", "aarch64") for name, told in said.items()}
        return [hosts.HostReply(name, done, None, Exit.OK) for name, done in finished.items()]

    monkeypatch.setattr(doctor_hosts, "at_hosts", at_hosts)
    assert main(["doctor", "--host", "kitchen", "--host", "bench"]) == 6
    told = capsys.readouterr()
    rows = [re.split(r" {2,}", line) for line in told.out.splitlines()]
    assert ["kitchen", "onnxruntime", "fp32, fp16, int8", "yes"] in [row[:4] for row in rows]
    assert not [row for row in rows if row[0] == "bench"]
    assert "the answer of bench" in told.err
