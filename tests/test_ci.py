"""The action and the CI examples: valid by the services' own schemas, and their steps do in bash what they say."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import junitparser
import pytest
import yaml

from ulsam_deploy._version import REF, __version__
from ulsam_deploy.cli.parser import build_parser
from ulsam_deploy.device.bundle import read_bundle
from ulsam_deploy.device.checks import Check
from ulsam_deploy.device.commands.sarif import sarif
from ulsam_deploy.device.findings import Verdict

from .steps import ACTION, STEPS, Runner, bash

ROOT = Path(__file__).parents[1]
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


def test_nothing_promises_a_package_or_a_tag_that_is_not_published() -> None:
    """Recipes install from the repository: from the tag of a release, and before the first from its branch."""
    released = re.search(rf"^## \[{re.escape(__version__)}\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert f"v{__version__}" == REF if released else REF == "main", "see docs/releasing.md"
    pages = [ROOT / "README.md", ROOT / "action.yml", ROOT / "Dockerfile", *(ROOT / "docs").glob("*.md")]
    found = []
    for page in [*pages, *(ROOT / "examples/ci").iterdir()]:
        text = page.read_text()
        assert not re.search(r"pip install (--\S+ \S+ )*[\"']?ulsam-deploy\b(?! @)", text), page
        named = re.findall(
            r"ulsam-deploy/ulsam-deploy(?:\.git)?[@#]([\w.]+)|\b(?:rev:|REF *[:=]) *'?([\w.]+)|\b(v\d+\.\d+\.\d+)", text
        )
        refs = {ref for words in named for ref in words if ref}
        if page.name != "releasing.md":
            assert refs <= {REF}, page
            found += [page.name] if refs else []
    assert sorted(found) == ["Jenkinsfile", "README.md", "ci.md", "emulation.md", "github.yml", "gitlab.yml"]


def test_the_example_gives_inputs_that_there_are() -> None:
    workflow = yaml.safe_load((ROOT / "examples/ci/github.yml").read_text())
    (step,) = [step for step in workflow["jobs"]["deploy"]["steps"] if "ulsam-deploy/" in step.get("uses", "")]
    assert set(step["with"]) <= set(ACTION["inputs"])
    assert step["uses"].endswith(f"@{REF}")
    used = set(re.findall(r"inputs\.(\w+)", (ROOT / "action.yml").read_text()))
    assert used == set(ACTION["inputs"])


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
    assert runner.run("Verdict").returncode == 0
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


def test_a_failing_export_fails_the_step_and_the_rest_still_tells(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "broken.pt").write_bytes(b"no checkpoint")
    runner = Runner(tmp_path, model="broken.pt", target="onnx", bundle="broken.bundle", install="", sarif="true")
    code, log = runner.everything()
    assert code == 3
    assert "::error" in log
    assert "broken.pt" in runner.summary.read_text()
    assert runner.output() == "error"
    assert runner.given["actions/upload-artifact@v4"]["name"] == "ulsam-deploy-deploy-2"
    sent = runner.given["github/codeql-action/upload-sarif@v3"]["sarif_file"]
    (run,) = json.loads((tmp_path / sent).read_text())["runs"]
    assert [found["level"] for found in run["results"]] == ["error"]


@pytest.mark.parametrize(
    ("codes", "verdict"),
    [
        ("export 0\nverify 0\n", "pass"),
        ("export 0\ngate-times 5\n", "inconclusive"),
        ("gate-bundles 1\ngate-times 5\n", "fail"),
        ("export 0\nrpi4 4\n", "error"),
        ("export 1\nverify 70\n", "error"),
        ("", "error"),
    ],
)
def test_the_verdict_is_that_of_the_worst_step(codes: str, verdict: str, tmp_path: Path) -> None:
    (tmp_path / "ulsam-deploy").mkdir()
    (tmp_path / "ulsam-deploy" / "codes").write_text(codes)
    runner = Runner(tmp_path, model="m.pt")
    assert runner.run("Verdict").returncode == 0
    assert runner.output() == verdict


def test_what_is_installed_keeps_to_the_constraints(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said(tmp_path, monkeypatch, "python")
    assert Runner(tmp_path, model="m.pt").run("Install").returncode == 0
    words = (tmp_path / "said").read_text().split()
    assert words == ["-m", "pip", "install", "--constraint", str(ROOT / "constraints.txt"), f"{ROOT}[all]"]
    assert (ROOT / "constraints.txt").is_file()


def test_code_scanning_gets_one_run_with_what_every_command_found(tmp_path: Path) -> None:
    """It refuses two runs of the same tool and category in one upload."""
    runner = Runner(tmp_path, model="m.pt", sarif="true")
    (tmp_path / "ulsam-deploy/sarif").mkdir(parents=True)
    assert runner.run("Collect findings").returncode == 0
    assert not runner.wanted(STEPS["Upload findings to code scanning"]), "nothing was found out"
    for name, verdict in (("export", Verdict.PASS), ("verify", Verdict.FAIL), ("gate-times", Verdict.INCONCLUSIVE)):
        checks = [Check("onnx fp32", "evidence", verdict, name), Check("onnx fp32", name, verdict)]
        (tmp_path / f"ulsam-deploy/sarif/{name}.sarif").write_bytes(sarif(Path("net.bundle"), checks))
    assert runner.run("Collect findings").returncode == 0
    step = STEPS["Upload findings to code scanning"]
    assert runner.wanted(step)
    (run,) = json.loads((tmp_path / step["with"]["sarif_file"]).read_text())["runs"]
    assert [rule["id"] for rule in run["tool"]["driver"]["rules"]] == ["evidence", "gate-times", "verify"]
    assert [found["level"] for found in run["results"]] == ["warning", "warning", "error", "error"]


@pytest.mark.parametrize("old", ["", "17"])
def test_one_comment_on_the_pull_request_is_made_or_renewed(
    old: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said(tmp_path, monkeypatch, "gh", f"case $2 in *comments) echo {old};; esac")
    (tmp_path / "ulsam-deploy").mkdir()
    (tmp_path / "ulsam-deploy" / "summary.md").write_text("All is well.")
    runner = Runner(tmp_path, model="m.pt", comment="true")
    assert not runner.wanted(STEPS["Comment on the pull request"]), "this is no pull request"
    runner.context["github.event.pull_request.number"] = "5"
    done = runner.run("Comment on the pull request")
    assert done.returncode == 0, done.stderr
    last = (tmp_path / "said").read_text().splitlines()[-1]
    at = f"api --method PATCH repos/me/mine/issues/comments/{old}" if old else "api repos/me/mine/issues/5/comments"
    assert last == f"{at} --field body=@ulsam-deploy/comment.txt --silent"
    assert (tmp_path / "ulsam-deploy" / "comment.txt").read_text().splitlines() == [
        "<!-- ulsam-deploy deploy-2 -->", "All is well.",
    ]  # fmt: skip


def said(folder: Path, monkeypatch: pytest.MonkeyPatch, name: str, more: str = "") -> None:
    """A program called ``name`` that writes its words to ``said``."""
    (folder / "bin").mkdir()
    (folder / "bin" / name).write_text(f'#!/bin/sh\necho "$@" >> {folder}/said\n{more}\n')
    (folder / "bin" / name).chmod(0o755)
    places = (str(folder / "bin"), str(Path(sys.executable).parent), os.environ["PATH"])
    monkeypatch.setenv("PATH", os.pathsep.join(places))


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
def test_every_step_in_an_empty_folder(exported: Runner, tmp_path: Path) -> None:
    """The whole action, with itself as the baseline: all pass, and what is worse than the baseline fails."""
    (tmp_path / "main.bundle").symlink_to(exported.folder / "model.bundle")
    model = str(exported.folder / "my model.pt")
    settings = {"model": model, "target": "onnx", "options": "--batch 2", "baseline": "main.bundle", "install": ""}
    runner = Runner(tmp_path, profile="quick", sarif="true", **settings)
    code, log = runner.everything()
    assert code == 0, log
    assert runner.output() in ("pass", "inconclusive")
    for name in ("result.json", "baseline.json", "gate-bundles.xml", "gate-times.xml", "verify.json", "summary.md"):
        assert (tmp_path / "ulsam-deploy" / name).is_file()
    assert "presence" in runner.summary.read_text()
    manifest = tmp_path / "model.bundle" / "manifest.json"
    document = json.loads(manifest.read_text())
    document["artifacts"][0]["evidence"]["verdict"] = "fail"
    manifest.write_text(json.dumps(document))
    assert runner.run("Gate against main").returncode == 1


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


@pytest.mark.slow
def test_jenkins_shell_steps_leave_a_packed_bundle_its_reports_and_a_gate(exported: Runner, tmp_path: Path) -> None:
    text = (ROOT / "examples/ci/Jenkinsfile").read_text().replace("onnx,tflite", "onnx")
    _, make, gate = re.findall(r"sh \'\'\'\n(.*?)\'\'\'", text, re.DOTALL)
    done = bash(make, tmp_path, MODEL=str(exported.folder / "my model.pt"))
    assert done.returncode == 0, done.stderr
    (tmp_path / "main").mkdir()
    (tmp_path / "main" / "model.zip").write_bytes((tmp_path / "model.zip").read_bytes())
    done = bash(gate, tmp_path)
    assert done.returncode == 0, done.stderr
    assert {path.stem for path in (tmp_path / "results").iterdir()} == {"export", "verify", "gate"}


def test_the_hook_for_pre_commit_verifies_the_bundle_that_it_is_given(exported: Runner) -> None:
    (hook,) = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text())
    assert (hook["language"], hook["pass_filenames"]) == ("python", False)
    assert bash(f"{hook['entry']} model.bundle", exported.folder).returncode == 0
    assert bash(f"{hook['entry']} main.bundle", exported.folder).returncode == 2
