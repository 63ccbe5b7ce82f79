"""Which board a machine proves to be, on the shapes of real machines; no real board was at hand."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from ulsam_deploy.boards.remote import Finished
from ulsam_deploy.cli import main, verify_hosts
from ulsam_deploy.cli.hosts import HostReply
from ulsam_deploy.device import codec, this_machine
from ulsam_deploy.device import verify as evidence
from ulsam_deploy.device.bench.identity import DeviceProof, prove
from ulsam_deploy.device.bench.profiles import Profile
from ulsam_deploy.device.bench.result import Result
from ulsam_deploy.device.bench.turns import Plan
from ulsam_deploy.device.benchmark import Wanted, bench_bundles
from ulsam_deploy.device.bundle import Evidence, read_bundle
from ulsam_deploy.device.commands import timings, verify_bundle
from ulsam_deploy.device.errors import Exit, UnavailableError
from ulsam_deploy.device.findings import EngineFacts
from ulsam_deploy.device.profiles import identities
from ulsam_deploy.device.shortfall import shortfall
from ulsam_deploy.device.types import EvidenceLevel

from ...handmade import make_bundle
from .boards import MISSING, ORIN_JP6, ORIN_JP7, PI4, PI5, THOR, X86, Fixture, tegra

MODEL, CPUS = "proc/device-tree/model", "proc/cpuinfo"


def cores(part: str, count: int = 4) -> dict[str, str]:
    one = "processor\t: {}\nCPU implementer\t: 0x41\nCPU architecture: 8\nCPU variant\t: 0x0\nCPU part\t: {}\n\n"
    return {CPUS: "".join(one.format(number, part) for number in range(count))}


PIS = {"Pi 3": {MODEL: "Raspberry Pi 3 Model B Plus Rev 1.3\0", **cores("0xd03")}, "Pi 4": {**PI4, **cores("0xd08")},
       "Pi 5": {**PI5, **cores("0xd0b")}}  # fmt: skip
ORIN, THORS = cores("0xd42", 6), cores("0xd83", 14)


@pytest.mark.parametrize(
    ("files", "bits", "device"),
    [
        (PIS["Pi 3"], 64, "rpi3"),
        (PIS["Pi 4"], 64, "rpi4"),
        (PIS["Pi 4"], 32, "rpi4-32bit"),
        (PIS["Pi 5"], 64, "rpi5"),
        ({**ORIN_JP6, **ORIN}, 64, "jetson-orin-jp6"),
        ({**ORIN_JP7, **ORIN}, 64, "jetson-orin-jp7"),
        ({**THOR, **THORS}, 64, "jetson-thor-jp7"),
    ],
)
def test_every_profile_that_is_a_board_can_be_proven(
    files: Mapping[str, str], bits: int, device: str, tmp_path: Path
) -> None:
    assert prove(Fixture("", files).board(tmp_path), identities(), bits).device == device


def test_only_boards_can_be_proven() -> None:
    assert set(identities()) == {
        *("rpi3", "rpi4", "rpi5", "rpi4-32bit", "jetson-orin-jp6", "jetson-orin-jp7", "jetson-thor-jp7")
    }


@pytest.mark.parametrize(
    ("files", "bits", "words"),
    [
        ({}, 64, "does not say which board it is"),
        (X86, 64, "this machine is 'Maker Desk 9', and no device profile describes that"),
        ({**PIS["Pi 4"], MODEL: "Raspberry Pi 400 Rev 1.0\0"}, 64, "no device profile describes that"),
        ({**PIS["Pi 4"], MODEL: MISSING}, 64, "does not say which board it is"),
        (PIS["Pi 5"], 32, "it is not rpi5, because its programs have 32 bits, not 64"),
        (PI4, 64, "it is not rpi4, because its processor is unknown, not 0xd08"),
        ({**PI4, **cores("0xd0b")}, 64, "its processor is 0xd0b, not 0xd08"),
        ({**PI4, CPUS: "processor : 0\nmodel name : an x86 under an emulator\n"}, 64, "its processor is unknown"),
        ({**PI4, CPUS: cores("0xd08")[CPUS] + cores("0xd03")[CPUS]}, 64, "its processor is 0xd03 or 0xd08"),
        ({**ORIN_JP6, **ORIN, "etc/nv_tegra_release": MISSING}, 64, "its Jetson Linux is unknown"),
        ({**ORIN_JP6, **ORIN, "etc/nv_tegra_release": tegra("36", "3.0")}, 64, "its Jetson Linux is 36.3.0"),
        ({**ORIN_JP6, **ORIN, "etc/nv_tegra_release": tegra("35", "4.1")}, 64, "its Jetson Linux is 35.4.1"),
    ],
)
def test_a_machine_that_contradicts_itself_is_no_board(
    files: Mapping[str, str], bits: int, words: str, tmp_path: Path
) -> None:
    found = prove(Fixture("", files).board(tmp_path), identities(), bits)
    assert found.device is None
    assert words in found.why


def test_a_profile_of_the_users_own_says_what_its_board_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = tmp_path / "devices.toml"
    monkeypatch.setenv("ULSAM_DEPLOY_DEVICES", str(own))
    own.write_text('[kiosk]\ntitle = "our kiosk"\n[kiosk.identity]\nmodels = ["Maker Desk *"]\n')
    board = Fixture("", X86).board(tmp_path / "root")
    assert this_machine.proof(board).device == "kiosk"
    own.write_text("[kiosk]\nidentity = 3\n")  # which stops nobody from checking a bundle
    assert "the device profiles can't be read" in this_machine.proof(board).why


def test_what_ran_is_measured_on_the_device_that_the_machine_is() -> None:
    here, ran = DeviceProof("rpi5", "it is one"), Evidence(EvidenceLevel.EXECUTED, engine=EngineFacts("LiteRT", "2"))
    found = evidence.measured(ran, here)
    assert (found.level, found.engine) == (EvidenceLevel.MEASURED_ON_DEVICE, EngineFacts("LiteRT", "2", device="rpi5"))
    assert evidence.measured(ran, DeviceProof(None, "it is none")) == ran
    assert evidence.measured(Evidence(EvidenceLevel.COMPILED), here).level is EvidenceLevel.COMPILED


HERE = DeviceProof(None, "this machine is no board")
LACKING = UnavailableError("no engine here can run 'trt' artifacts", todo="install one")


@pytest.mark.parametrize(
    ("reached", "required", "more", "why", "todo"),
    [
        (EvidenceLevel.EXECUTED, EvidenceLevel.MEASURED_ON_DEVICE, {"here": HERE}, HERE.why, "--host USER@NAME"),
        (
            EvidenceLevel.EXECUTED,
            EvidenceLevel.MEASURED_ON_DEVICE,
            {},
            "it did not run on a device",
            "--host USER@NAME",
        ),
        (
            EvidenceLevel.EMULATED_ON_DEVICE_CPU,
            EvidenceLevel.MEASURED_ON_DEVICE,
            {"emulated": True},
            "measures nothing",
            "--host USER",
        ),
        (
            EvidenceLevel.EXECUTED,
            EvidenceLevel.EMULATED_ON_DEVICE_CPU,
            {},
            "this machine's own processor",
            "--device NAME",
        ),
        (EvidenceLevel.COMPILED, EvidenceLevel.EXECUTED, {"error": LACKING}, LACKING.found, "install one"),
        (EvidenceLevel.COMPILED, EvidenceLevel.MEASURED_ON_DEVICE, {"error": LACKING}, LACKING.found, "install one"),
        (EvidenceLevel.EXPORTED, EvidenceLevel.COMPILED, {}, "no engine ran it here", "ulsam-deploy doctor"),
    ],
)
def test_why_a_level_was_not_reached(
    reached: EvidenceLevel, required: EvidenceLevel, more: dict[str, Any], why: str, todo: str
) -> None:
    found = shortfall("trt", "fp16", reached, required, bundle="b.bundle", **more)
    assert found is not None
    assert why in found.why
    assert todo in found.todo
    for word in ("trt fp16", reached.label, required.label, found.why, found.todo):
        assert word in str(found)
    for enough in [level for level in EvidenceLevel if level <= reached]:
        assert shortfall("trt", "fp16", reached, enough, bundle="b.bundle", **more) is None


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_bundle(tmp_path_factory.mktemp("bundle") / "dense.bundle", targets=("onnx",)).root


def test_a_result_of_bench_names_the_device(bundle: Path, tmp_path: Path) -> None:
    quick = Plan(Profile("quick", 1, 1, 0.0, 0.05, 4, 0.0), None, ())
    for files, device in ((PIS["Pi 5"], "rpi5"), (X86, None)):
        board = Fixture("", files).board(tmp_path / str(device))
        (benched,) = bench_bundles([read_bundle(bundle)], Wanted(quick), board)
        found = benched.result
        assert Result.from_json(found.to_json()).machine.device == device
        assert ("this machine proves to be rpi5" in " ".join(timings.remarks(found))) is (device is not None)


@pytest.fixture
def is_pi5(monkeypatch: pytest.MonkeyPatch) -> None:
    for place in (evidence, verify_bundle):
        monkeypatch.setattr(
            place, "proof", lambda: DeviceProof("rpi5", "this machine is 'Raspberry Pi 5 Model B Rev 1.0'")
        )


@pytest.mark.usefixtures("is_pi5")
def test_verify_on_a_board_reaches_the_highest_level(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", str(bundle), "--require", "measured-on-device", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    shown = codec.decode(Evidence, found["artifacts"][0]["evidence"], "evidence")
    assert shown.engine is not None
    assert (shown.level, shown.engine.device) == (EvidenceLevel.MEASURED_ON_DEVICE, "rpi5")
    assert shown.latency is not None
    assert found["missed"] == []


def test_a_level_that_was_not_reached_is_named_with_its_reason(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    why = "this machine is 'Maker Desk 9', and no device profile describes that"
    for place in (evidence, verify_bundle):
        monkeypatch.setattr(place, "proof", lambda: DeviceProof(None, why))
    words = ["verify", str(bundle), "--require", "measured-on-device", "--junit", str(tmp_path / "j.xml")]
    assert main(words) == 4
    told = capsys.readouterr().err
    assert f"onnx fp32: reached 'executed', but 'measured-on-device' was required: {why}" in told
    assert f"ulsam-deploy verify {bundle} --host USER@NAME" in told
    assert why.replace("'", "&#39;") in (tmp_path / "j.xml").read_text() or why in (tmp_path / "j.xml").read_text()
    assert main([*words, "--json"]) == 4
    (missed,) = json.loads(capsys.readouterr().out)["missed"]
    assert missed == {
        "target": "onnx", "precision": "fp32", "reached": "executed", "required": "measured-on-device", "why": why,
        "todo": f"ulsam-deploy verify {bundle} --host USER@NAME",
    }  # fmt: skip
    assert main(["verify", str(bundle), "--require", "emulated-on-device-cpu"]) == 4
    assert f"ulsam-deploy verify {bundle} --device NAME" in capsys.readouterr().err


@pytest.mark.parametrize("require", ["parsed", "executed"])
def test_a_level_is_missed_as_well_where_no_engine_is_here(
    require: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also without --target: that an engine is not here is no excuse for evidence that was asked for."""
    path = make_bundle(tmp_path / "dense.bundle", targets=("onnx",)).root
    manifest = json.loads((path / "manifest.json").read_text())
    (artifact,) = manifest["artifacts"]
    artifact["target"], artifact["evidence"]["level"] = "trt", "exported"
    (path / "manifest.json").write_text(codec.dumps(manifest))
    assert main(["verify", str(path), "--require", require]) == 4
    assert (
        f"trt fp32: reached 'exported', but '{require}' was required: no engine here can run" in capsys.readouterr().err
    )
    assert main(["verify", str(path), "--require", require, "--json"]) == 4
    (missed,) = json.loads(capsys.readouterr().out)["missed"]
    assert (missed["reached"], missed["required"]) == ("exported", require)


@pytest.mark.parametrize(
    ("require", "how"), [("measured-on-device", "--host USER@NAME"), ("emulated-on-device-cpu", "--device NAME")]
)
@pytest.mark.parametrize("more", [[], ["--dry-run"]])
def test_an_export_is_not_asked_for_what_no_export_reaches(
    require: str, how: str, more: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "net.pt").write_bytes(b"never read")
    assert main(["export", str(tmp_path / "net.pt"), "--require", require, *more]) == 2
    told = capsys.readouterr().err
    assert f"an export never reaches '{require}'" in told
    assert f"ulsam-deploy verify {tmp_path}/net.bundle {how} --require {require}" in told


def test_the_words_offer_what_can_be_reached(capsys: pytest.CaptureFixture[str]) -> None:
    for command, offered in (("export", False), ("verify", True)):
        with pytest.raises(SystemExit):
            main([command, "--help"])
        said = " ".join(capsys.readouterr().out.split()).replace("measured-on- device", "measured-on-device")
        assert ("measured-on-device" in said) is offered
    assert main(["verify", "--against", "m.pt", "m.onnx", "--require", "measured-on-device"]) == 2


@pytest.mark.parametrize("device", ["rpi5", None])
def test_a_board_behind_ssh_earns_it_by_what_it_is(
    device: str | None, bundle: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The link is left out: what was sent is done by the same code in this process, on a machine that is ``device``."""
    for place in (evidence, verify_bundle):
        monkeypatch.setattr(place, "proof", lambda: DeviceProof(device, "this machine is no board"))

    def there(arguments: object, folder: Path, words: list[str]) -> list[HostReply]:
        said = io.StringIO()
        monkeypatch.chdir(folder)
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(io.StringIO()):
            code = main(words)
        return [HostReply("kitchen", Finished(code, said.getvalue(), "", {}, "3.11", "aarch64"), None, Exit(code))]

    monkeypatch.setattr(verify_hosts, "at_hosts", there)
    words = ["verify", str(bundle), "--host", "kitchen", "--require", "measured-on-device"]
    assert main(words) == (0 if device else 4)
    out = capsys.readouterr().out
    assert ("measured-on-device" if device else "executed") in out
    assert ("was required: this machine is no board" in out) is (device is None)
