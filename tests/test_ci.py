"""The action and the CI examples: valid by the services' own schemas, and their steps do in bash what they say."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import junitparser
import pytest
import yaml

from ulsam_deploy.cli.parser import COMMANDS, build_parser
from ulsam_deploy.device.bundle import read_bundle

ROOT = Path(__file__).parents[1]
ACTION = yaml.safe_load((ROOT / "action.yml").read_text())
STEPS = {step["name"]: step for step in ACTION["runs"]["steps"]}
GITLAB = yaml.safe_load((ROOT / "examples/ci/gitlab.yml").read_text())


@pytest.mark.parametrize(
    ("kind", "file"),
    [
        ("github-actions", "action.yml"),
        ("github-workflows", "examples/ci/github.yml"),
        ("github-workflows", ".github/workflows/ci.yml"),
        ("gitlab-ci", "examples/ci/gitlab.yml"),
    ],
)
def test_the_services_own_schema_accepts_it(kind: str, file: str) -> None:
    words = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", f"vendor.{kind}", file]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_no_input_is_ever_part_of_a_script() -> None:
    """An input goes through the environment, where a shell doesn't read it as code."""
    for step in STEPS.values():
        assert "${{" not in step.get("run", "")


def test_the_example_gives_inputs_that_there_are() -> None:
    workflow = yaml.safe_load((ROOT / "examples/ci/github.yml").read_text())
    (step,) = [step for step in workflow["jobs"]["deploy"]["steps"] if "ulsam-deploy/" in step.get("uses", "")]
    assert set(step["with"]) <= set(ACTION["inputs"])
    used = set(re.findall(r"inputs\.(\w+)", (ROOT / "action.yml").read_text()))
    assert used == set(ACTION["inputs"])


class Runner:
    """Runs a composite action's steps as GitHub's runner does: ``bash --noprofile --norc -e -o pipefail``."""

    def __init__(self, folder: Path, **given: str) -> None:
        self.folder = folder
        self.inputs = {name: spec.get("default", "") for name, spec in ACTION["inputs"].items()} | given
        self.summary = folder / "summary.md"

    def filled(self, text: str) -> str:
        text = re.sub(r"\$\{\{ inputs\.(\w+) \}\}", lambda found: self.inputs[found[1]], text)
        return text.replace("${{ github.action_path }}", str(ROOT))

    def wanted(self, step: dict[str, Any]) -> bool:
        condition = re.fullmatch(r"inputs\.(\w+) != ''", step.get("if", "inputs.model != ''"))
        assert condition, f"this test does not know the condition {step['if']!r}"
        return self.inputs[condition[1]] != ""

    def run(self, name: str) -> subprocess.CompletedProcess[str]:
        step = STEPS[name]
        assert self.wanted(step)
        environment = {key: self.filled(value) for key, value in step["env"].items()}
        return bash(self.filled(step["run"]), self.folder, GITHUB_STEP_SUMMARY=str(self.summary), **environment)


def bash(script: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    words = ["bash", "--noprofile", "--norc", "-e", "-o", "pipefail", "-c", script]
    whole = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "GITHUB_ACTIONS": "true",
        **environment,
    }
    return subprocess.run(words, cwd=folder, env=whole, capture_output=True, text=True)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("a repository")
    new = "ulsam-deploy new mobilenet_v1 --insert 9 --width 0.25 --classes 4 --input 3x32x32 -o 'my model.pt'"
    assert bash(new, made).returncode == 0
    return made


@pytest.fixture(scope="module")
def exported(folder: Path) -> Runner:
    runner = Runner(folder, model="my model.pt", target="onnx", options="--batch 2 --require executed", install="")
    done = runner.run("Export")
    assert done.returncode == 0, done.stderr
    return runner


def test_export_leaves_bundle_junit_and_summary(exported: Runner) -> None:
    (record,) = read_bundle(exported.folder / "model.bundle").manifest.artifacts
    assert record.inputs[0].shape[0] == 2, "the words of 'options' were not heard"
    suite = junitparser.JUnitXml.fromfile(str(exported.folder / "ulsam-deploy" / "export.xml"))
    assert suite.tests >= 3
    assert suite.failures == 0
    assert "my model.pt" in exported.summary.read_text()


def test_verify_passes_and_refuses_what_was_altered(exported: Runner) -> None:
    exported.inputs["require"] = "executed"
    assert exported.run("Verify").returncode == 0
    model = exported.folder / "model.bundle" / "onnx" / "model.onnx"
    whole = model.read_bytes()
    model.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    try:
        done = exported.run("Verify")
        assert done.returncode == 6
        assert "::error" in done.stderr
    finally:
        model.write_bytes(whole)


def test_a_failing_export_fails_the_step_and_still_writes_the_summary(folder: Path) -> None:
    (folder / "broken.pt").write_bytes(b"no checkpoint")
    runner = Runner(folder, model="broken.pt", target="onnx", bundle="broken.bundle", install="")
    runner.summary = folder / "broken.md"
    done = runner.run("Export")
    assert done.returncode == 3
    assert "::error" in done.stderr
    assert "broken.pt" in runner.summary.read_text()


def test_an_option_is_never_run_as_code(folder: Path) -> None:
    runner = Runner(folder, model="$(touch owned)", target="`touch owned`", options="; touch owned", install="")
    assert runner.run("Export").returncode == 2
    assert not (folder / "owned").exists()


def test_without_a_bundle_of_main_nothing_is_gated(exported: Runner) -> None:
    exported.inputs["baseline"] = "none.bundle"
    done = exported.run("Gate against main")
    assert done.returncode == 0
    assert "::notice" in done.stdout


@pytest.mark.slow
def test_the_gate_times_both_bundles_in_turns(exported: Runner) -> None:
    if not {"bench", "compare"} <= set(COMMANDS):
        pytest.skip("the commands 'bench' and 'compare' are not here")
    exported.inputs["baseline"] = "model.bundle"
    done = exported.run("Gate against main")
    assert done.returncode == 0, done.stderr + done.stdout
    for name in ("result.json", "baseline.json", "gate.xml"):
        assert (exported.folder / "ulsam-deploy" / name).is_file()


@pytest.mark.slow
@pytest.mark.arm
def test_the_boards_are_emulated(exported: Runner) -> None:
    verify = build_parser(["verify"]).commands["verify"]
    if "--device" not in verify.format_help():
        pytest.skip("'verify' has no --device here")
    exported.inputs["devices"] = "rpi5"
    done = exported.run("Verify on ARM boards in emulation")
    assert done.returncode == 0, done.stderr
    assert (exported.folder / "ulsam-deploy" / "rpi5.xml").is_file()


@pytest.mark.slow
def test_gitlab_s_script_leaves_a_packed_bundle_and_its_reports(exported: Runner, tmp_path: Path) -> None:
    """Without boards, and without a bundle of main to fetch; TFLite is left out because it takes a minute."""
    script = "\n".join(GITLAB["deploy"]["script"]).replace("onnx,tflite", "onnx")
    model = str(exported.folder / "my model.pt")
    done = bash(script, tmp_path, MODEL=model, DEVICES="", CI_API_V4_URL="http://127.0.0.1:9")
    assert done.returncode == 0, done.stderr
    assert read_bundle(tmp_path / "model.zip").manifest.model.name == "my model"
    assert {path.name for path in (tmp_path / "results").iterdir()} == {"export.xml", "verify.xml"}
