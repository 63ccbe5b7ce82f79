"""The runner: one small file, the same bytes each time, that does on a bare Python what the package does here."""

from __future__ import annotations

import ast
import importlib.metadata
import json
import re
import shlex
import subprocess
import sys
import venv
import zipfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from ulsam_deploy.boards.runner import runner_bytes, write_runner
from ulsam_deploy.cli import main
from ulsam_deploy.device.bench.result import Result
from ulsam_deploy.device.commands.parser import COMMANDS
from ulsam_deploy.device.errors import UsageError
from ulsam_deploy.device.profiles import identities

from ..handmade import make_bundle

TFLITE = {"ai_edge_litert", "tflite_micro", "tflite_runtime"}
ENGINES = {"onnxruntime", "openvino", *TFLITE, "tensorrt", "tensorrt_rtx", "torch", "onnx"}
Answer = subprocess.CompletedProcess[str]


@pytest.fixture(scope="module")
def runner(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_runner(tmp_path_factory.mktemp("runner") / "runner.pyz")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_bundle(tmp_path_factory.mktemp("bundle") / "dense.bundle", batch=1).root


@pytest.fixture(scope="module")
def board(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Answer]:
    """``board(*distributions)(*words)``: a fresh Python that has these distributions of ours, and nothing else."""
    folder = tmp_path_factory.mktemp("board")

    @cache
    def has(*distributions: str) -> Callable[..., Answer]:
        bare = folder / ("-".join(distributions) or "empty")
        venv.create(bare, with_pip=False)
        (site,) = (bare / "lib").glob("python*/site-packages")
        for distribution in distributions:
            files = importlib.metadata.files(distribution) or []
            for top in {file.parts[0] for file in files} - {"..", "__pycache__"}:
                (site / top).symlink_to(Path(str(importlib.metadata.distribution(distribution).locate_file(top))))
        python = [str(bare / "bin" / "python"), "-I"]
        return lambda *words: subprocess.run(
            [*python, *map(str, words)], cwd=folder, capture_output=True, text=True, timeout=300, check=False
        )

    return has  # type: ignore[return-value]  # a cached function is one


def test_it_is_small_and_the_same_bytes_each_time(runner: Path, tmp_path: Path) -> None:
    assert runner.stat().st_size < 2**20
    assert runner.stat().st_mode & 0o111
    again = [sys.executable, "-c", "import sys; from ulsam_deploy.boards import runner; sys.stdout.buffer.write(runner.runner_bytes())"]  # fmt: skip  # noqa: E501
    other = subprocess.run(again, cwd=tmp_path, env={"PYTHONHASHSEED": "7"}, capture_output=True, check=True).stdout
    assert runner.read_bytes() == other == runner_bytes()


def test_it_holds_source_that_needs_numpy_alone(runner: Path) -> None:
    allowed = set(sys.stdlib_module_names) | {"numpy", "ulsam_deploy"}
    with zipfile.ZipFile(runner) as archive:
        names = [name for name in archive.namelist() if "dist-info" not in name]
        assert {Path(name).suffix for name in names} == {".py"}
        assert not any("pytorch" in name or "exporters" in name or "models" in name for name in names)
        for name in names:
            engines = ENGINES if "/runtimes/" in name else set()
            for node in ast.walk(ast.parse(archive.read(name))):
                if isinstance(node, ast.Import):
                    found = {alias.name.split(".")[0] for alias in node.names}
                else:
                    found = {node.module.split(".")[0]} if isinstance(node, ast.ImportFrom) and node.module else set()
                    found = set() if isinstance(node, ast.ImportFrom) and node.level else found
                # What a command uses where it is installed, inside a function: a board does without.
                assert found - {"PIL", "rich", "tomli"} <= allowed | engines, name


def test_it_is_the_code_of_the_package(runner: Path) -> None:
    root = Path(__file__).parents[3]
    with zipfile.ZipFile(runner) as archive:
        for name in archive.namelist():
            if name.startswith("ulsam_deploy/"):
                place = name.removeprefix("ulsam_deploy/") if "/runtimes/" in name else name
                assert archive.read(name) == (root / place).read_bytes()


def _plain(out: str) -> Any:
    """A verify document less what differs from run to run, and less the interpreters that are not everywhere."""
    found = json.loads(out)
    for artifact in found["artifacts"]:
        if artifact["evidence"]:
            del artifact["evidence"]["latency"], artifact["evidence"]["interpreters"]
    return found


@pytest.mark.parametrize(
    ("target", "distributions"),
    [("onnx", ["onnxruntime"]), ("tflite", ["ai-edge-litert"])],
)
def test_verify_says_on_a_bare_python_what_it_says_here(
    target: str, distributions: list[str], board: Any, runner: Path, bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = board("numpy", *distributions)
    absent = run("-c", "import importlib.util as u; print([n for n in ('torch', 'onnx', 'ulsam_deploy') if u.find_spec(n)])")  # fmt: skip  # noqa: E501
    assert absent.stdout == "[]\n"
    done = run(runner, "verify", bundle, "--target", target, "--json")
    assert done.returncode == 0, done.stderr
    assert main(["verify", str(bundle), "--target", target, "--json"]) == 0
    assert _plain(done.stdout) == _plain(capsys.readouterr().out)
    assert json.loads(done.stdout)["artifacts"][0]["evidence"]["verdict"] == "pass"


def test_a_damaged_bundle_is_refused_as_by_the_package(
    board: Any, runner: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = make_bundle(tmp_path / "dense.bundle", targets=("onnx",)).root
    with (bundle / "onnx" / "model.onnx").open("ab") as file:
        file.write(b"\0")
    done = board("numpy")(runner, "verify", bundle)
    assert done.returncode == main(["verify", str(bundle)]) == 6
    assert done.stderr == capsys.readouterr().err


def test_what_identifies_boards_travels(board: Any, runner: Path) -> None:
    """A board's own Python may have no reader for TOML: the profiles stay here, what they say of boards goes along."""
    code = f"import sys; sys.path.insert(0, {str(runner)!r}); from ulsam_deploy.device import this_machine as m; "
    code += "print(sorted(m._known().items())); assert 'ulsam_deploy.device.profiles' not in sys.modules"
    done = board("numpy")("-c", code)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(sorted(identities().items()))


def test_doctor_knows_the_runtimes_without_an_installed_package(board: Any, runner: Path) -> None:
    done = board("numpy")(runner, "doctor", "--json")
    found = json.loads(done.stdout)
    names = {backend["name"] for backend in found["backends"]}
    assert names == {"ncnn", "onnxruntime", "openvino", "tensorrt", "tflite", "tflite-micro", "tflite-runtime"}
    assert not any(backend["usable"] for backend in found["backends"])
    assert found["tools"] == [], "what the host alone can do is none of the board's business"


@pytest.mark.parametrize("words", ["doctor", "verify {bundle}", "verify {bundle} --target onnx", "bench {bundle}"])
def test_advice_on_a_board_is_the_boards(board: Any, runner: Path, bundle: Path, words: str) -> None:
    """There are no extras there, no exporters, and no ulsam-deploy to call: what is advised can be pasted."""
    done = board("numpy")(runner, *words.format(bundle=bundle).split())
    told = done.stdout + done.stderr
    assert "pip install onnxruntime" in told
    assert "ulsam-deploy[" not in told
    assert not re.search(r"ulsam-deploy [a-z]", told), "there is only runner.pyz"
    for line in re.findall(r"\S*python\S* \S*runner\.pyz doctor", told):
        again = shlex.split(line)
        assert subprocess.run([again[0], "-I", *again[1:]], cwd=runner.parent, capture_output=True).returncode == 0


def test_a_python_without_numpy_is_told_so(board: Any, runner: Path) -> None:
    done = board()(runner, "doctor")
    assert done.returncode == 4
    assert "this Python has no numpy" in done.stderr
    assert "Traceback" not in done.stderr


def test_what_is_left_out_is_said(board: Any, runner: Path, bundle: Path) -> None:
    run = board("numpy")
    done = run(runner, "verify", "--against", "model.pt", bundle / "onnx" / "model.onnx")
    assert done.returncode == 2
    assert "there is no option '--against'" in done.stderr
    done = run(runner, "export", "model.pt")
    assert done.returncode == 2
    assert all(name in done.stderr for name in COMMANDS)


def test_pack_writes_it_and_spares_other_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = tmp_path / "runner.pyz"
    for _ in range(2):  # a runner there is replaced
        assert main(["pack", "--runner", "-o", str(place), "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["size"] == place.stat().st_size
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(UsageError, match="isn't a device runner"):
        write_runner(tmp_path / "notes.txt")
    assert (tmp_path / "notes.txt").read_text() == "mine"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["notes.txt", "runner.pyz"]


def test_bench_on_a_bare_python_leaves_a_result_that_the_host_reads(
    board: Any, runner: Path, bundle: Path, tmp_path: Path
) -> None:
    """Fresh processes find the modules in the one file; those, too, see no installed package of ours."""
    words = ["--targets", "onnx", "--profile", "quick", "--rounds", "2", "--threads", "1", "-o", tmp_path / "r.json"]
    done = board("numpy", "onnxruntime")(runner, "bench", bundle, *words)
    assert done.returncode in (0, 5), done.stderr  # 5: something else ran here meanwhile
    (one,) = Result.from_json((tmp_path / "r.json").read_bytes()).measured
    assert (one.label, len(one.processes)) == ("onnx fp32", 2)
    assert one.parity is not None
    assert one.parity.verdict.value == "pass"
    done = board("numpy", "onnxruntime")(runner, "bench", bundle, "--host", "kitchen")
    assert done.returncode == 2
    assert "there is no option '--host'" in done.stderr
