"""The house rules that import-linter cannot tell: what a device needs, what starting up costs, how files begin.

Who may import whom stands in ``pyproject.toml``, and ``lint-imports`` (part of ``make check``) enforces it.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
WINGS = ("models", "exporters", "runtimes")
#: What a command uses where it is installed, and a runtime's own engine: imported when it is used, not before.
OPTIONAL = {"PIL", "rich", "tomli"}
TFLITE = {"ai_edge_litert", "tflite_micro", "tflite_runtime"}
ENGINES = {"onnxruntime", "openvino", *TFLITE, "tensorrt", "tensorrt_rtx", "onnx", "ncnn"}


def modules(*places: str) -> list[Path]:
    return sorted(path for place in places for path in (ROOT / place).rglob("*.py"))


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
            for inner in ast.iter_child_nodes(node):
                yield from walk(inner, depth + inside)

    yield from walk(ast.parse(path.read_text()), 0)


def outside(path: Path, *, nested: bool) -> set[str]:
    """The packages, ours and the standard library's and numpy left out, that a module imports."""
    found = {name.split(".")[0] for name, level in imports(path, nested=nested) if level == 0}
    return found - set(sys.stdlib_module_names) - {"numpy", "ulsam_deploy"}


def test_the_core_imports_by_absolute_names_and_names_no_wing() -> None:
    """In a wheel the wings are parts of the package, where import-linter, which reads a clone, cannot see them."""
    wings = tuple(f"ulsam_deploy.{wing}" for wing in WINGS)
    wrong = [
        f"{path.relative_to(ROOT)}: {name or '.'}"
        for path in modules("ulsam_deploy")
        for name, level in imports(path)
        if level > 0 or name.startswith(wings)
    ]
    assert wrong == []


def test_wings_import_their_own_modules_by_relative_names() -> None:
    """They are found under two names, ``exporters`` and ``ulsam_deploy.exporters``, and must not be loaded twice."""
    wrong = [
        f"{path.relative_to(ROOT)}: {name}"
        for path in modules(*WINGS)
        for name, level in imports(path)
        if level == 0 and name.removeprefix("ulsam_deploy.").split(".")[0] in WINGS
    ]
    assert wrong == []


def test_what_travels_to_a_device_needs_numpy_alone() -> None:
    device = modules("ulsam_deploy/device")
    engines = [path for path in modules("runtimes") if path.name != "pytorch.py"]
    at_import = {path: outside(path, nested=False) for path in (*device, *engines)}
    anywhere = {path: outside(path, nested=True) - OPTIONAL for path in device}
    anywhere |= {path: outside(path, nested=True) - ENGINES for path in engines}
    wrong = {str(path): found for some in (at_import, anywhere) for path, found in some.items() if found}
    assert wrong == {}


@pytest.mark.parametrize(
    "statement",
    [
        "import ulsam_deploy",
        "from ulsam_deploy.cli.parser import build_parser",
        "from ulsam_deploy.cli.parser import build_parser\nbuild_parser()",
        "from ulsam_deploy.cli import main\nwith contextlib.suppress(SystemExit): main(['--help'])",
        "from ulsam_deploy.cli import main\nwith contextlib.suppress(SystemExit): main(['export', '--help'])",
    ],
)
def test_starting_up_imports_nothing_heavy(statement: str) -> None:
    heavy = "{'numpy', 'torch', 'onnx', 'onnxruntime', 'openvino', 'ai_edge_litert', 'tensorrt', 'tensorrt_rtx'}"
    code = f"import contextlib, sys\n{statement}\nprint(sorted({heavy} & set(sys.modules)))"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout
    assert said.splitlines()[-1:] == ["[]"]


def test_a_file_is_not_too_long_and_says_why_it_exists() -> None:
    found = {path: path.read_text() for path in modules("ulsam_deploy", *WINGS)}
    assert [str(path) for path, text in found.items() if len(text.splitlines()) > 420] == []
    unsaid = [str(path) for path, text in found.items() if not (ast.get_docstring(ast.parse(text)) or "").strip()]
    assert unsaid == [], "its first lines must say why it exists"


def test_what_a_command_imports_at_its_start_is_numpy_alone() -> None:
    """An optional package that is imported up there is needed by everybody who never uses it."""
    code = """
import importlib.metadata, sys
from ulsam_deploy.cli.parser import COMMANDS
from ulsam_deploy.device.commands.parser import command_of
before = set(sys.modules)
for name in COMMANDS:
    command_of(COMMANDS, name)
import ulsam_deploy.api
tops = {name.split(".")[0] for name in set(sys.modules) - before}
print(sorted(tops & set(importlib.metadata.packages_distributions())))
"""
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout
    assert said.splitlines()[-1:] == ["['numpy', 'ulsam_deploy']"]


def test_no_two_classes_have_one_name() -> None:
    """A reader who meets a name must not have to ask which one; two of one name in a schema would be one entry."""
    places: dict[str, list[str]] = {}
    for path in modules("ulsam_deploy", *WINGS):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                places.setdefault(node.name, []).append(str(path.relative_to(ROOT)))
    assert {name: found for name, found in places.items() if len(found) > 1} == {}


def test_the_wheel_has_every_package() -> None:
    toml = pytest.importorskip("tomllib")  # Python 3.11
    listed = toml.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    folders = [path.parent.relative_to(ROOT) for path in modules("ulsam_deploy", *WINGS) if path.name == "__init__.py"]
    names = [".".join(folder.parts) for folder in folders]
    assert sorted(listed) == sorted(f"ulsam_deploy.{name}" if name.split(".")[0] in WINGS else name for name in names)
