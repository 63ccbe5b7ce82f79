"""Every TensorRT name that the code uses exists in the API of every generation that it claims.

``tests/data/trt_api.json`` lists classes and members of TensorRT 8.6 to 11.4 and of TensorRT for RTX, read from their
Python bindings. The names used are read out of the source, so that a new call cannot be forgotten here.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
API = json.loads((ROOT / "tests" / "data" / "trt_api.json").read_text())
EVERY, RTX = tuple(API), ("rtx-1.7.1.116",)
TYPED = tuple(version for version in API if not version.startswith("8."))
WEAK = tuple(version for version in API if version.startswith(("8.", "10.")))

#: Variable or attribute of ours to the class that it holds.
HOLDERS = {
    "builder": "Builder", "network": "INetworkDefinition", "parser": "OnnxParser", "config": "IBuilderConfig",
    "profile": "IOptimizationProfile", "error": "ParserError", "timing": "ITimingCache", "_runtime": "Runtime",
    "_engine": "ICudaEngine", "_context": "IExecutionContext", "flags": "NetworkDefinitionCreationFlag",
}  # fmt: skip
#: Names behind a question whether they are there, and the generations that have them.
CONDITIONAL = {
    "BuilderFlag.FP16": WEAK,
    "NetworkDefinitionCreationFlag.STRONGLY_TYPED": TYPED,
    "NetworkDefinitionCreationFlag.EXPLICIT_BATCH": WEAK,
    "ParserError.node_name": TYPED,
    "IBuilderConfig.num_compute_capabilities": RTX,
    "IBuilderConfig.set_compute_capability": RTX,
    "ComputeCapability": RTX,
}
#: What our own classes and values have under those variable names.
OURS = {
    *(f"builder.{name}" for name in ("ShapeProfile", "EngineRecipe", "BuildSession", "parse", "build")),
    *(f"profile.{name}" for name in ("min", "opt", "max", "items")),
    *(f"error.{name}" for name in ("found", "strerror")),
}
DEVICE = ("runtimes/tensorrt/runtime.py", "runtimes/tensorrt/builder.py", "runtimes/tensorrt/engine.py")


def used(path: Path) -> Iterator[str]:
    """``Class.member`` and ``Class`` for every attribute of the TensorRT module and of what we hold of it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.Attribute):
            continue
        owner = node.value
        last = owner.id if isinstance(owner, ast.Name) else owner.attr if isinstance(owner, ast.Attribute) else ""
        if last in ("trt", "_trt"):
            yield node.attr
        elif isinstance(owner, ast.Attribute) and getattr(owner.value, "id", getattr(owner.value, "attr", "")) == "trt":
            yield f"{owner.attr}.{node.attr}"
        elif last in HOLDERS and f"{last}.{node.attr}" not in OURS:
            yield f"{HOLDERS[last]}.{node.attr}"


def exists(version: str, name: str) -> bool:
    kind, _, member = name.partition(".")
    return kind in API[version] and (not member or member in API[version][kind])


NAMES = sorted({name for file in DEVICE for name in used(ROOT / file) if "__" not in name})


def test_the_reading_of_the_source_finds_what_is_there() -> None:
    assert {
        "Builder.build_serialized_network", "OnnxParser.parse", "Runtime.deserialize_cuda_engine",
        "IExecutionContext.execute_async_v3", "ICudaEngine.get_tensor_mode", "BuilderFlag.TF32", "OnnxParser",
    } <= set(NAMES)  # fmt: skip
    assert set(CONDITIONAL) <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_name_is_in_every_generation_that_the_code_claims(name: Any) -> None:
    claimed = CONDITIONAL.get(name, EVERY)
    assert [version for version in claimed if not exists(version, name)] == []


@pytest.mark.parametrize("name", sorted(CONDITIONAL))
def test_a_condition_is_not_kept_for_what_is_everywhere(name: Any) -> None:
    assert [version for version in API if version not in CONDITIONAL[name] and exists(version, name)] == []


def test_the_interpreter_knows_classes_of_the_parser_that_it_runs_on() -> None:
    from ulsam_deploy.exporters.tensorrt.layers import LAYERS

    assert [name for name, _ in LAYERS.values() if not exists(RTX[0], name)] == []
