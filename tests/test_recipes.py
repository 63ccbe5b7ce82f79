"""Every recipe for CI, line by line, in an empty folder of a bare root of the distributions that it may meet.

What a service itself brings is not here: checkouts, caches and stored artifacts are done by the test, and Python is the
distribution's own. The repository is this working tree, under its public address, and its branch and tag are made here.
The logs lie in ``build/recipes``.
"""

from __future__ import annotations

import contextlib
import functools
import http.server
import re
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from ulsam_deploy._version import REF
from ulsam_deploy.boards.emulate.tools import CONTAINER
from ulsam_deploy.device.bundle import read_bundle

from . import roots
from .steps import BASH, ROOT, Runner

LOGS = ROOT / "build" / "recipes"
ADDRESS = "https://github.com/ulsam-deploy/ulsam-deploy"
WORKFLOW = yaml.safe_load((ROOT / "examples/ci/github.yml").read_text())["jobs"]["deploy"]
GITLAB = yaml.safe_load((ROOT / "examples/ci/gitlab.yml").read_text())["deploy"]
JENKINS = (ROOT / "examples/ci/Jenkinsfile").read_text()
#: The image of these recipes: Debian 12 with a Python of its own.
IMAGE = "debian:12"
#: What GitHub's runners and the images of the other services have installed.
PACKAGES = ("ca-certificates", "curl", "git", "python3-venv", "sudo")
#: The boards that a distribution's qemu can be, where these are not all of the recipe.
BOARDS = {"ubuntu:22.04": "rpi4"}
#: The gate's own profile takes minutes; the number of rounds is all that differs.
PROFILE = "quick"
MODEL = ROOT / "models/cluttered_digits.pt"
#: Makes the repository of the recipes from this working tree, with the branch or tag that they name.
ORIGIN = f"""
git config --system safe.directory '*'
git config --system user.name x && git config --system user.email x
cp -r /opt/action /opt/origin && cd /opt/origin
git init --quiet --initial-branch main && git add --all && git commit --quiet --message x
[ {REF} = main ] || git tag {REF}
git config --system url.file:///opt/origin.insteadOf {ADDRESS}
"""

pytestmark = [pytest.mark.slow, pytest.mark.timeout(7200)]


class InRoot(Runner):
    """Runs steps in a folder of a root."""

    action = "/opt/action"

    def __init__(self, image: Image, place: str) -> None:
        self.image, self.place = image, place
        super().__init__(image.root.path / place[1:])
        self.folder.mkdir(parents=True)

    def seen(self, name: str) -> str:
        return f"{self.place}/{name}"

    def shell(self, script: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return self.image.bash(script, self.place, GITHUB_ACTIONS="true", **environment)


class Image:
    """A root with what an image of CI has, and with this repository under its public address."""

    def __init__(self, distribution: str, folder: Path, log: str) -> None:
        LOGS.mkdir(parents=True, exist_ok=True)
        self.distribution, self.log, self.start = distribution, LOGS / log, time.monotonic()
        self.log.write_text("")
        self.root = roots.make(distribution, folder)
        self.sure(f"apt-get update -qq && apt-get install -qq --yes --no-install-recommends {' '.join(PACKAGES)}")
        self.sure("python3 -m venv /opt/python")
        self.root.variables["PATH"] = f"/opt/python/bin:{self.root.variables['PATH']}"
        roots.copy_tree(self.root.path / "opt/action")
        self.sure(ORIGIN)

    def bash(self, script: str, folder: str = "/", **environment: str) -> subprocess.CompletedProcess[str]:
        """Run a script as a service does, and keep what it said, while it grows, in the log."""
        self.note(f"$ {script.strip()}")
        done = self.root.run([*BASH, script], folder, **environment)
        self.note(f"{done.stdout}exit {done.returncode}")
        return done

    def sure(self, script: str, folder: str = "/", **environment: str) -> None:
        """The same of a script that must succeed."""
        done = self.bash(script, folder, **environment)
        assert done.returncode == 0, f"{script}\n{done.stdout[-3000:]}"

    def note(self, text: str) -> None:
        """Add a line to the log."""
        with self.log.open("a") as file:
            file.write(f"[{time.monotonic() - self.start:.0f} s] {text.rstrip()}\n")


@pytest.fixture
def image(distribution: str, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Image]:
    if sentence := roots.obstacle():
        pytest.skip(sentence)
    name = request.function.__name__.removeprefix("test_")
    try:
        yield Image(distribution, tmp_path, f"{name}-{distribution.replace(':', '-')}.log")
    finally:
        shutil.rmtree(tmp_path, ignore_errors=True)  # several gigabytes


def workflow(runner: InRoot, ref: str, main: Path) -> int:
    """Run the example's job for ``ref``, with ``main`` as the cache of main's bundle, and return its exit code."""
    runner.context["github.ref"] = ref
    for step in WORKFLOW["steps"]:
        uses = step.get("uses", "").partition("@")[0]
        if not runner.wanted(step):
            continue
        code = 0
        if "run" in step:
            code = runner.shell(step["run"]).returncode
        elif uses == "actions/checkout":
            shutil.copy(MODEL, runner.folder / "model.pt")
        elif uses == "actions/setup-python":
            runner.shell("python --version")
        elif uses == "actions/cache/restore":
            if main.exists():
                shutil.copytree(main, runner.folder / step["with"]["path"])
        elif uses == "actions/cache/save":
            shutil.copytree(runner.folder / step["with"]["path"], main)
        else:
            assert uses == "ulsam-deploy/ulsam-deploy", "a step that is not understood here"
            runner.inputs |= step["with"] | {"profile": PROFILE, "sarif": "true"}
            runner.inputs["devices"] = BOARDS.get(runner.image.distribution, step["with"]["devices"])
            code, _ = runner.everything()
        if code:
            return code
    return 0


@pytest.mark.parametrize("distribution", roots.DISTRIBUTIONS)
def test_github(distribution: str, image: Image) -> None:
    """A push to main in an empty folder, then a pull request that is held against what that left."""
    main = image.root.path.parent / "main.bundle"
    push = InRoot(image, "/work/push")
    assert workflow(push, "refs/heads/main", main) == 0
    assert push.output() == "pass"
    pull = InRoot(image, "/work/pull")
    assert workflow(pull, "refs/pull/5/merge", main) == 0
    assert pull.output() in ("pass", "inconclusive"), "the machine may be too noisy to tell times apart"
    for runner, gates in ((push, set()), (pull, {"gate-bundles", "gate-times"})):
        lines = dict(line.split() for line in (runner.folder / "ulsam-deploy/codes").read_text().splitlines())
        assert set(lines) == {"export", "verify", *runner.inputs["devices"].split(), *gates}
        image.note(f"{runner.place}: {lines}, verdict {runner.output()}")
    if distribution in BOARDS:
        done = image.bash("ulsam-deploy verify model.bundle --device rpi5", "/work/pull")
        assert done.returncode == 4
        assert CONTAINER in done.stdout


@pytest.mark.parametrize("distribution", [IMAGE])
def test_gitlab(image: Image) -> None:
    """The default branch first, when there is no bundle of it yet, and then another one."""
    image.root.variables |= {key: str(value) for key, value in GITLAB["variables"].items() if "$" not in str(value)}
    script = "\n".join([*GITLAB["before_script"], *GITLAB["script"]])
    with served(image.root.path.parent / "served") as (address, folder):
        settings = {"CI_API_V4_URL": address, "CI_PROJECT_ID": "1", "CI_DEFAULT_BRANCH": "main", "CI_JOB_TOKEN": "x"}
        for name, results in (
            ("first", {"export", "verify", "rpi4", "rpi5"}),
            ("second", {"gate-bundles", "gate-times"}),
        ):
            place = image.root.path / "builds" / name
            place.mkdir(parents=True)
            shutil.copy(MODEL, place / "model.pt")
            image.sure(script, f"/builds/{name}", CI_PROJECT_DIR=f"/builds/{name}", **settings)
            assert {path.stem for path in (place / "results").glob("*.xml")} >= results
            assert read_bundle(place / "model.zip").manifest.model.name == "model"
            kept = folder / "projects/1/jobs/artifacts/main/raw"
            kept.mkdir(parents=True, exist_ok=True)
            shutil.copy(place / "model.zip", kept)
            shutil.rmtree(image.root.path / "opt/ulsam-deploy")  # the next job has an image of its own


@pytest.mark.parametrize("distribution", [IMAGE])
def test_jenkins_and_pre_commit(image: Image) -> None:
    """Two builds of the one; then the hook as the documentation configures it, on a bundle that is committed."""
    image.root.variables |= dict(re.findall(r"^    (\w+) = '(.*)'$", JENKINS, re.MULTILINE))
    install, make, gate = re.findall(r"sh \'\'\'\n(.*?)\'\'\'", JENKINS, re.DOTALL)
    place = image.root.path / "builds"
    place.mkdir()
    shutil.copy(MODEL, place / "model.pt")
    for script in (install, make, gate):
        image.sure(script, "/builds")
    (place / "main").mkdir()
    shutil.copy(place / "model.zip", place / "main")
    image.sure(gate, "/builds")
    assert {path.stem for path in (place / "results").iterdir()} == {"export", "verify", "gate"}

    (config,) = re.findall(r"```yaml\n(repos:.*?)```", (ROOT / "docs/ci.md").read_text(), re.DOTALL)
    (place / ".pre-commit-config.yaml").write_text(config)
    image.sure(
        "pip install --quiet pre-commit && git init --quiet && git add .pre-commit-config.yaml model.bundle", "/builds"
    )
    image.sure("pre-commit run --all-files --verbose", "/builds")
    (place / "model.bundle/onnx/model.onnx").write_bytes(b"other")
    image.sure("git add model.bundle", "/builds")  # pre-commit looks at what is staged
    assert image.bash("pre-commit run --all-files --verbose", "/builds").returncode == 1


@contextlib.contextmanager
def served(folder: Path) -> Iterator[tuple[str, Path]]:
    """Serve a folder on this machine only."""
    folder.mkdir()
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}", folder
        server.shutdown()
