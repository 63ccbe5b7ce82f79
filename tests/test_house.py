"""The house rules of the design, read from the imports: who may import whom, and what runs on a device."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
WINGS = ("models", "exporters", "runtimes")
#: What may be imported on a device besides the standard library and numpy: a runtime's own engine, lazily.
DEVICE_SAFE = (
    *("contracts.py", "errors.py", "plugins.py", "third_party.py", "evidence.py", "external_data.py", "_version.py"),
    *("invocation.py", "isolation.py", "verifying.py", "preprocessing.py", "thresholds.py", "timing.py"),
    *(
        "accuracy",
        "parity",
        "bench",
        "bundle",
        "findings",
        "spelling.py",
        "targets.py",
        "shortfall.py",
        "this_machine.py",
    ),
)
ENGINES = {"onnxruntime", "openvino", "ai_edge_litert", "tflite_runtime", "tensorrt", "tensorrt_rtx", "torch", "onnx"}


def modules(*places: str) -> Iterator[Path]:
    for place in places:
        path = ROOT / place
        yield from [path] if path.is_file() else path.rglob("*.py")


def imports(path: Path, *, nested: bool = True) -> Iterator[tuple[str, int]]:
    """``(module, level)`` of every import outside ``if TYPE_CHECKING``; without ``nested``, of the top level only."""

    def walk(node: ast.AST, depth: int) -> Iterator[tuple[str, int]]:
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            for child in node.orelse:
                yield from walk(child, depth)
            return
        if isinstance(node, ast.Import):
            yield from ((alias.name, 0) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or "", node.level
        inside = isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
        if nested or not inside:
            for child in ast.iter_child_nodes(node):
                yield from walk(child, depth + inside)

    yield from walk(ast.parse(path.read_text()), 0)


def wing_of(module: str) -> str | None:
    parts = module.split(".")
    if parts[0] == "ulsam_deploy":
        parts = parts[1:]
    return parts[0] if parts and parts[0] in WINGS else None


@pytest.mark.parametrize("path", [*modules("ulsam_deploy")], ids=lambda p: str(p.relative_to(ROOT)))
def test_the_core_never_imports_a_wing(path: Path) -> None:
    assert [name for name, level in imports(path) if level == 0 and wing_of(name)] == []
    assert [name for name, level in imports(path) if level > 0] == [], "the core imports by absolute names"


@pytest.mark.parametrize("path", [*modules(*WINGS)], ids=lambda p: str(p.relative_to(ROOT)))
def test_wings_never_import_each_other(path: Path) -> None:
    absolute = [name for name, level in imports(path) if level == 0 and wing_of(name)]
    assert absolute == [], "inside a wing, imports are relative; another wing is never imported"
    assert [name for name, level in imports(path) if level > 1] == []


def rank(module: str) -> int | None:
    """How high a module of the core stands: imports point downward only."""
    storeys = [
        {"contracts", "errors", "findings", "invocation", "isolation", "plugins", "spelling", "thresholds", "_version"},
        {"targets", "third_party", "external_data", "preprocessing", "toml"},
        {"bundle", "parity", "bench"},
        {"accuracy", "budget", "cache", "devices", "images", "progress", "workers"},
        {"options", "checkpoint", "evidence", "shortfall", "signing", "remote", "this_machine"},
        {"gate", "timing", "verification", "verifying"},
        {"onnx_in", "own_probes", "calibration", "diverge"},
        {"bom", "lint", "program", "report", "source"},
        {"attachments", "census", "eager", "making", "road"},
        {"search"},
        {"outcome"},
        {"abreast", "asking"},
        {"pipeline", "plan"},
        {"foreign"},
        {"api", "cli", "emulate", "friendly", "runner", "sweep", "__main__"},
    ]
    parts = module.split(".")
    if parts[0] != "ulsam_deploy" or len(parts) < 2:
        return None
    found = [number for number, names in enumerate(storeys) if parts[1] in names]
    assert found, f"{parts[1]} has no storey yet: give it one"
    return found[0]


@pytest.mark.parametrize("path", [*modules("ulsam_deploy")], ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_of_the_core_point_downward(path: Path) -> None:
    parts = path.relative_to(ROOT).with_suffix("").parts
    own = None if parts == ("ulsam_deploy", "__init__") else rank(".".join(parts))
    if own is None:
        return
    above = [name for name, _ in imports(path) if (other := rank(name)) is not None and other > own]
    assert above == []


@pytest.mark.parametrize(
    "path",
    [
        *modules(*(f"ulsam_deploy/{name}" for name in DEVICE_SAFE)),
        *(p for p in modules("runtimes") if p.name != "pytorch.py"),
    ],
    ids=lambda p: str(p.relative_to(ROOT)),
)
def test_device_safe_modules_need_numpy_alone(path: Path) -> None:
    allowed = set(sys.stdlib_module_names) | {"numpy", "ulsam_deploy"}
    at_import = {name.split(".")[0] for name, level in imports(path, nested=False) if level == 0}
    assert at_import <= allowed
    anywhere = {name.split(".")[0] for name, level in imports(path) if level == 0}
    engines = ENGINES if path.parent.name == "runtimes" else set()
    assert anywhere <= allowed | engines


@pytest.mark.parametrize(
    "statement",
    [
        "import ulsam_deploy",
        "from ulsam_deploy.cli.parser import build_parser",
        "from ulsam_deploy.cli import main\nwith contextlib.suppress(SystemExit): main(['export', '--help'])",
    ],
)
def test_starting_up_imports_nothing_heavy(statement: str) -> None:
    heavy = "{'numpy', 'torch', 'onnx', 'onnxruntime', 'openvino', 'ai_edge_litert', 'tensorrt', 'tensorrt_rtx'}"
    code = f"import contextlib, sys\n{statement}\nprint(sorted({heavy} & set(sys.modules)))"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout
    assert said.splitlines()[-1:] == ["[]"]


@pytest.mark.parametrize("path", [*modules("ulsam_deploy", *WINGS)], ids=lambda p: str(p.relative_to(ROOT)))
def test_a_file_is_not_too_long_and_says_why_it_exists(path: Path) -> None:
    text = path.read_text()
    assert len(text.splitlines()) <= 420
    assert (ast.get_docstring(ast.parse(text)) or "").strip(), "its first lines must say why it exists"
