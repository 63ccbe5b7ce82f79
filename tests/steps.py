"""Runs the steps of workflows and of ``action.yml`` as GitHub's runner does, like ``act`` but in a few lines."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[1]
ACTION = yaml.safe_load((ROOT / "action.yml").read_text())
STEPS = {step["name"]: step for step in ACTION["runs"]["steps"]}
#: Steps of other people's actions, and what this project's steps need of them: nothing.
OTHERS = ("actions/cache@v4", "github/codeql-action/upload-sarif@v3", "actions/upload-artifact@v4")
#: How the runner starts a step's script.
BASH = ("bash", "--noprofile", "--norc", "-e", "-o", "pipefail", "-c")


class Runner:
    """Runs the composite action's steps, in ``folder``.

    Of the expressions it knows those that ``action.yml`` and the example have, and other people's actions are not run;
    what they would be given is in ``given``.
    """

    #: Where the action's own files are, as its steps see them.
    action = str(ROOT)

    def __init__(self, folder: Path, **inputs: str) -> None:
        self.folder = folder
        self.inputs = {name: spec.get("default", "") for name, spec in ACTION["inputs"].items()} | inputs
        self.summary = folder / "summary.md"
        self.context = {
            "github.action_path": self.action, "github.action_ref": "v0", "github.token": "secret",
            "github.sha": "abc", "github.ref": "refs/heads/main", "github.job": "deploy", "strategy.job-index": "2",
            "runner.os": "Linux", "runner.arch": "X64", "env.ULSAM_DEPLOY_CACHE": "",
            "github.event.pull_request.number": "",
        }  # fmt: skip
        self.given: dict[str, dict[str, str]] = {}
        self.codes: dict[str, int] = {}

    def value(self, expression: str) -> str:
        """The value of an expression: ``||``, ``&&``, ``==``, ``!=``, a format, a name or a quoted text."""
        for word, joined in ((" || ", lambda a, b: a or b()), (" && ", lambda a, b: a and b())):
            first, found, rest = expression.partition(word)
            if found:
                return str(joined(self.value(first), lambda rest=rest: self.value(rest)))
        for word in (" == ", " != "):
            first, found, rest = expression.partition(word)
            if found:
                return "true" if (self.value(first) == self.value(rest)) == (word == " == ") else ""
        expression = expression.strip()
        if expression.startswith("format("):
            form, *words = expression.removeprefix("format(").removesuffix(")").split(", ")
            return self.value(form).format(*map(self.value, words))
        if expression.startswith("'"):
            return expression.strip("'")
        if expression.startswith("hashFiles("):
            name = self.value(expression.removeprefix("hashFiles(").removesuffix(")"))
            return "a hash" if (self.folder / name).is_file() else ""
        if expression == "always()":
            return "true"
        name = expression.removeprefix("inputs.")
        return self.filled(self.inputs[name]) if name != expression else self.context[name]

    def filled(self, text: str) -> str:
        """The text with the values of its expressions."""
        return re.sub(r"\$\{\{ (.*?) \}\}", lambda found: self.value(found[1]), text)

    def wanted(self, step: dict[str, Any]) -> bool:
        """Whether its condition holds."""
        return self.value(step.get("if", "'true'")) != ""

    def seen(self, name: str) -> str:
        """The path of a file of the folder, as steps see it."""
        return str(self.folder / name)

    def shell(self, script: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run a script in the folder."""
        return bash(script, self.folder, **environment)

    def run(self, name: str) -> subprocess.CompletedProcess[str]:
        """Run one step of the action."""
        step = STEPS[name]
        assert self.wanted(step)
        environment = {key: self.filled(value) for key, value in step.get("env", {}).items()}
        places = {"GITHUB_STEP_SUMMARY": self.seen("summary.md"), "GITHUB_OUTPUT": self.seen("outputs")}
        done = self.shell(self.filled(step["run"]), GITHUB_REPOSITORY="me/mine", **places, **environment)
        self.codes[name] = done.returncode
        return done

    def everything(self) -> tuple[int, str]:
        """Every step in order, with what the runner does after a failure: the exit code, and the log."""
        code, log = 0, ""
        for name, step in STEPS.items():
            if not self.wanted(step) or (code and "always()" not in step.get("if", "")):
                continue
            if "uses" in step:
                assert step["uses"] in OTHERS
                self.given[step["uses"]] = {key: self.filled(value) for key, value in step["with"].items()}
                continue
            done = self.run(name)
            code = code or done.returncode
            log += f"##[group]{name}\n{done.stdout}{done.stderr}##[endgroup] exit {done.returncode}\n"
        return code, log

    def output(self) -> str:
        """The action's ``verdict``."""
        assert ACTION["outputs"]["verdict"]["value"] == "${{ steps.verdict.outputs.verdict }}"
        assert STEPS["Verdict"]["id"] == "verdict"
        return (self.folder / "outputs").read_text().splitlines()[-1].removeprefix("verdict=")


def bash(script: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a script of a step here, with this environment's own ``ulsam-deploy``, unless PATH says otherwise already."""
    mine, path = str(Path(sys.executable).parent), os.environ["PATH"]
    path = path if mine in path.split(os.pathsep) else f"{mine}{os.pathsep}{path}"
    whole = {**os.environ, "PATH": path, "GITHUB_ACTIONS": "true", **environment}
    return subprocess.run([*BASH, script], cwd=folder, env=whole, capture_output=True, text=True)
