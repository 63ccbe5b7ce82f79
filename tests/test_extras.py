"""Each extra, alone and with one other, does all that it promises, and without ``report`` no more than that is missing.

Here the packages of all other extras are made impossible to import. ``test_bare.py`` installs each extra for itself.
"""

from __future__ import annotations

import itertools
import json
import re
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, distribution, packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement

#: Each extra makes artifacts for the target of its name.
EXTRAS = ("onnx", "openvino", "tflite", "trt")
PAIRS = list(itertools.combinations(EXTRAS, 2))
#: What each makes possible: the packages of "trt" hold those of "onnx".
MAKES = {extra: {extra} for extra in EXTRAS} | {"onnx": {"onnx", "trt"}, "trt": {"onnx", "trt"}}

RUN = """
import contextlib, io, json, sys
from importlib.machinery import PathFinder

absent, find_spec = set(json.loads(sys.argv[1])), PathFinder.find_spec

def find_what_is_installed(name, path=None, target=None):
    return None if name.split(".")[0] in absent else find_spec(name, path, target)

PathFinder.find_spec = find_what_is_installed
from ulsam_deploy.cli import main
answers = []
for words in json.loads(sys.argv[2]):
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main(words)
    answers.append((code, out.getvalue(), err.getvalue()))
print(json.dumps(answers))
"""
Answer = tuple[int, str, str]


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def brought(*extras: str) -> set[str]:
    """The distributions that pip installs with ``ulsam-deploy[extras]``, by their own words."""
    found: set[str] = set()
    waiting = [("ulsam-deploy", frozenset(extras))]
    seen = set(waiting)
    while waiting:
        name, wanted = waiting.pop()
        found.add(_plain(name))
        try:
            lines = distribution(name).requires or []
        except PackageNotFoundError:  # for another platform, or left out by hand: it is absent anyway
            continue
        for needed in map(Requirement, lines):
            applies = needed.marker is None or any(needed.marker.evaluate({"extra": one}) for one in wanted or {""})
            if applies and (one := (needed.name, frozenset(needed.extras))) not in seen:
                seen.add(one)
                waiting.append(one)
    return found


def run(extras: tuple[str, ...], *commands: str) -> list[Answer]:
    """Exit code, stdout and stderr of each command, one after the other in a process that has nothing else."""
    here = brought(*extras)
    absent = sorted(name for name, owners in packages_distributions().items() if not here & {*map(_plain, owners)})
    assert {"matplotlib", "pytest"} <= {*absent}
    words = [sys.executable, "-c", RUN, json.dumps(absent), json.dumps([command.split() for command in commands])]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    answers: list[Answer] = [(code, out, err) for code, out, err in json.loads(done.stdout.splitlines()[-1])]
    return answers


def test_what_an_extra_brings_is_read_from_the_package_s_own_words() -> None:
    assert {"onnx", "onnxruntime", "torch", "numpy", "jinja2"} <= brought("onnx")
    assert not {"matplotlib", "openvino", "pytest", "scikit-learn"} & brought("onnx")
    assert "matplotlib" in brought("onnx", "report")


@pytest.mark.long
@pytest.mark.parametrize("extra", EXTRAS)
def test_an_extra_alone_does_what_it_promises(extra: str, small_model: Path, tmp_path: Path) -> None:
    bundle = tmp_path / "m.bundle"
    (tmp_path / "s.toml").write_text(f'checkpoints = ["{small_model}"]\ntargets = ["{extra}"]\n')
    planned, exported, verified, benched, *others, paged = run(
        (extra,),
        f"export {small_model} --target {extra} --no-cache -o {bundle} --dry-run",
        f"export {small_model} --target {extra} --no-cache -o {bundle}",
        f"verify {bundle}",
        f"bench {bundle} --profile quick --rounds 1",
        f"inspect {bundle}",
        f"pack {bundle} -o {tmp_path}/m.zip",
        f"sweep {tmp_path}/s.toml -o {tmp_path}/swept --dry-run",
        "doctor",
        f"report {bundle} -o {tmp_path}/r.html",
    )
    assert [code for code, _, _ in (planned, exported, *others)] == [0] * 6, (planned, exported, others)
    executed = extra != "trt"  # nothing runs its engines without a GPU
    assert verified[0] == (0 if executed else 4), verified
    assert benched[0] in ((0, 5) if executed else (4,)), benched  # 5: something else ran here meanwhile
    assert ("pass" if executed else "unverified") in exported[1]
    assert "note: no report.html was written, it needs matplotlib: pip install 'ulsam-deploy[report]" in exported[2]
    assert not (bundle / "report.html").exists()
    assert "report.html" not in exported[1], "it tells people to look at a page that isn't there"
    assert paged[0] == 4, "a page needs 'report'"
    assert "pip install 'ulsam-deploy[report]" in paged[2]


@pytest.mark.long
@pytest.mark.parametrize("pair", PAIRS, ids="+".join)
def test_a_pair_makes_what_both_promise_and_no_more(pair: tuple[str, str], small_model: Path, tmp_path: Path) -> None:
    planned, told = run(
        pair, f"export {small_model} --target {','.join(pair)} -o {tmp_path}/m.bundle --dry-run", "doctor --json"
    )
    assert planned[0] == 0, planned
    makers = {one["name"]: one["usable"] for one in json.loads(told[1])["backends"] if one["does"] == "make"}
    assert {name for name, usable in makers.items() if usable} == MAKES[pair[0]] | MAKES[pair[1]]


@pytest.mark.slow
@pytest.mark.parametrize("pair", PAIRS, ids="+".join)
def test_a_pair_exports_side_by_side(pair: tuple[str, str], small_model: Path, tmp_path: Path) -> None:
    bundle = tmp_path / "m.bundle"
    words = f"export {small_model} --target {','.join(pair)} -o {bundle} --no-cache"
    answers = run(pair, words, f"verify {bundle}", f"inspect {small_model}", f"lint {small_model}")
    expected = [0, 0 if "trt" not in pair else 4, 0, 0]
    assert [code for code, _, _ in answers] == expected, answers
    assert not (bundle / "report.html").exists()


@pytest.mark.parametrize("dry", ["", " --dry-run"])
def test_where_nothing_can_be_made_all_is_not_success(dry: str, small_model: Path, tmp_path: Path) -> None:
    """``export`` is the extra that the others build on: it reads networks and has no target."""
    ((code, out, err),) = run(("export",), f"export {small_model} -o {tmp_path}/m.bundle{dry}")
    assert code == 4, (out, err)
    assert "pip install 'ulsam-deploy[onnx]" in out + err
